"""Input that broke others: each test is named after its advisory."""
