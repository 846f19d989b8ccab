"""Where the tool meets people: command line, demo, agreement runs, HTML reports.

Import it as `bitwright.reports`; the command line is `bitwright.reports.cli`.
"""
