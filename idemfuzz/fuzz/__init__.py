"""The search over arguments, starting states, schedules and faults that the bounded phases leave out.

`examples` draws arguments and states by Hypothesis, `pursuit` follows a finding to its smallest example.
"""
