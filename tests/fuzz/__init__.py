"""The search over arguments, starting states, schedules and faults."""
