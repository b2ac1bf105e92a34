"""What is shown of scores: tables, JSON, a page, pictures of incidents."""
