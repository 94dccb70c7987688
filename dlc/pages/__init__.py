"""Pages about training runs: self-contained HTML with pictures drawn as SVG, nothing fetched, nothing to install."""
