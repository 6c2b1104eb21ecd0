"""The paper's tables: its rows, today's best, and what was measured here, cell by cell."""
