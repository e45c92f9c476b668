"""What `import imagewizard` offers: images in memory, and jobs with the runs they leave."""
