"""Records to one self-contained HTML page, and to tables."""
