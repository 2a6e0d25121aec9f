"""Charts as SVG text, for reports and the pages of the inspection station."""
