"""What the Aer adapter is made of: its settings, the child that simulates, its files, and how memory is shared out."""
