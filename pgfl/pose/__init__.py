"""HRNet keypoint heatmaps, computed once and cached."""
