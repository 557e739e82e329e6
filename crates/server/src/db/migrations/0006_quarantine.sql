CREATE TABLE quarantine (
    machine TEXT PRIMARY KEY REFERENCES machines (id),
    reason TEXT NOT NULL,
    since BIGINT NOT NULL
);
