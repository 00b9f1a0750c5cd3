"""What is fired at: numbering, payments, orders and sales done right, and every known way to get them wrong."""
