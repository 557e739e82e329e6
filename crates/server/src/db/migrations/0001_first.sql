-- Times are microseconds since 1970, documents JSON in text, flags 0 or 1. Only what SQLite and PostgreSQL share.
CREATE TABLE machines (
    id TEXT PRIMARY KEY,
    identity TEXT NOT NULL,
    state TEXT NOT NULL,
    first_seen BIGINT NOT NULL,
    last_seen BIGINT NOT NULL,
    host_name TEXT,
    plan TEXT,
    session TEXT,
    inventory TEXT
);
-- Every name a machine is found by: kind is uuid, serial or mac.
CREATE TABLE machine_names (
    kind TEXT NOT NULL,
    value TEXT NOT NULL,
    machine TEXT NOT NULL REFERENCES machines (id),
    PRIMARY KEY (kind, value, machine)
);
CREATE TABLE jobs (
    id TEXT PRIMARY KEY,
    request TEXT NOT NULL,
    seed TEXT NOT NULL,
    created BIGINT NOT NULL,
    expires BIGINT,
    closed BIGINT
);
CREATE TABLE sessions (
    peer TEXT PRIMARY KEY,
    machine TEXT NOT NULL REFERENCES machines (id),
    nonce TEXT NOT NULL,
    assurance TEXT NOT NULL,
    approval_code TEXT NOT NULL,
    wrong_codes BIGINT NOT NULL,
    payload_version TEXT NOT NULL,
    created BIGINT NOT NULL,
    last_sequence BIGINT NOT NULL,
    plan TEXT
);
CREATE TABLE plans (
    id TEXT PRIMARY KEY,
    job TEXT NOT NULL REFERENCES jobs (id),
    machine TEXT NOT NULL REFERENCES machines (id),
    ordinal BIGINT NOT NULL,
    image TEXT NOT NULL,
    image_digest TEXT NOT NULL,
    body TEXT NOT NULL,
    started BIGINT NOT NULL,
    ended BIGINT,
    outcome TEXT,
    failure TEXT,
    confirmed BIGINT,
    confirm_hash TEXT,
    machine_id TEXT
);
CREATE INDEX plans_by_job ON plans (job);
CREATE INDEX plans_by_machine ON plans (machine);
CREATE INDEX plans_by_confirm_hash ON plans (confirm_hash);
CREATE TABLE stages (
    plan TEXT NOT NULL REFERENCES plans (id),
    number BIGINT NOT NULL,
    stage TEXT NOT NULL,
    bytes BIGINT NOT NULL,
    milliseconds BIGINT NOT NULL,
    PRIMARY KEY (plan, number)
);
CREATE TABLE warnings (
    plan TEXT NOT NULL REFERENCES plans (id),
    number BIGINT NOT NULL,
    message TEXT NOT NULL,
    PRIMARY KEY (plan, number)
);
CREATE TABLE events (
    peer TEXT NOT NULL REFERENCES sessions (peer),
    sequence BIGINT NOT NULL,
    plan TEXT,
    at BIGINT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (peer, sequence)
);
CREATE TABLE boot_tokens (
    hash TEXT PRIMARY KEY,
    job TEXT NOT NULL REFERENCES jobs (id),
    identity TEXT NOT NULL,
    subject TEXT NOT NULL,
    issued BIGINT NOT NULL,
    expires BIGINT NOT NULL,
    used BIGINT,
    superseded BIGINT
);
CREATE INDEX boot_tokens_by_subject ON boot_tokens (subject);
CREATE TABLE api_tokens (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    hash TEXT NOT NULL UNIQUE,
    scopes TEXT NOT NULL,
    created BIGINT NOT NULL,
    revoked BIGINT
);
CREATE TABLE leases (
    address TEXT PRIMARY KEY,
    client TEXT NOT NULL,
    hardware TEXT NOT NULL,
    host_name TEXT,
    state TEXT NOT NULL,
    until_ms BIGINT NOT NULL
);
CREATE TABLE audit (
    id TEXT PRIMARY KEY,
    at BIGINT NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    detail TEXT NOT NULL
);
CREATE INDEX audit_by_time ON audit (at);
