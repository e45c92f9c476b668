"""The public API of `import imagewizard`: functions for images in memory, jobs, and their runs."""
