"""Defects planted in otherwise clean demonstrations, and how many of them are found."""
