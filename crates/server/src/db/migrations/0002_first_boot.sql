ALTER TABLE plans ADD COLUMN first_boot TEXT;
