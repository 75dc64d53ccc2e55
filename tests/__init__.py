"""The tests: README.md says what each folder is about."""
