"""Running a program in production: what the launcher does around the script."""
