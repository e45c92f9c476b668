"""Pages, and the scripts that write their figures."""
