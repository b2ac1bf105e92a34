"""From masks and a depth image to tracks in space: camera, position and size of what a mask shows, filtered motion."""
