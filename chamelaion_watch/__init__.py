"""chamelaion-watch: drop a video and an audio track into a folder; the lip-synced video appears beside them."""
