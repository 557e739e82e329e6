CREATE TABLE boot_journal (
    id TEXT PRIMARY KEY,
    at BIGINT NOT NULL,
    mac TEXT NOT NULL,
    kind TEXT NOT NULL,
    body TEXT NOT NULL,
    advice TEXT
);
CREATE INDEX boot_journal_by_mac ON boot_journal (mac, at);
CREATE INDEX boot_journal_by_time ON boot_journal (at);
