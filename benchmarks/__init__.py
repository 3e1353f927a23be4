"""What the speed of Comity is compared with; not part of the package."""
