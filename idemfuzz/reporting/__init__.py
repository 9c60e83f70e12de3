"""Reports: what a search found, for people (`text`) and for programs (`json_report`)."""
