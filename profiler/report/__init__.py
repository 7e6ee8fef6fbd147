"""The report page: plain data in, one self-contained HTML file out."""
