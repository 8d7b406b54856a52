"""Reports for people: what a training's folder holds beside its checkpoint."""

from fastrnn.reports.run_report import REPORT_FILES, write_run_report

__all__ = ["REPORT_FILES", "write_run_report"]
