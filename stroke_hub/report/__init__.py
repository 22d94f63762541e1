"""report.json -> page, card, figures and sentences."""
