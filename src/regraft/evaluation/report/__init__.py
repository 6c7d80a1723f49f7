"""The report: one file that shows what a model learned, where it errs and how it was made."""

from regraft.evaluation.report.content import DecodeNote, Report
from regraft.evaluation.report.write import render_report, write_report

__all__ = ["DecodeNote", "Report", "render_report", "write_report"]
