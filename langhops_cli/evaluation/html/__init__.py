"""Reports as one HTML file each: nothing is fetched, and every text that comes from data is escaped."""

from langhops_cli.evaluation.html.comparison import write_comparison
from langhops_cli.evaluation.html.page import PAGE, write_html

__all__ = ["PAGE", "write_comparison", "write_html"]
