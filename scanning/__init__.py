"""What is inside an image and what is wrong with it."""
