"""The live dashboard: reads stores, never imports torch, writes only what a run should do."""
