"""From files to tables: readers, and what is done to each column."""
