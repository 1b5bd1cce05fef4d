"""What a batch costs over the tools' own time, side by side with what one would use instead."""
