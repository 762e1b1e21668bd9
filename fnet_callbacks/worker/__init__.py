"""What happens off the training thread: measuring, recording and drawing, each in a plain process without torch."""
