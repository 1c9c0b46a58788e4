"""Make reports of finished runs: tables, statistical tests, figures and summaries."""
