"""Compare modes on one study, and over several studies."""
