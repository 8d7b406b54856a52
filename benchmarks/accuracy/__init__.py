"""The table of the field: what each kind of model learns, how fast, on which data."""
