"""From manifests and heatmaps to a trained student."""
