-- SIDs of the Windows installations on machines. Machines that share one are copies of an installation that was not generalised.
CREATE TABLE windows_sids (
    machine TEXT NOT NULL REFERENCES machines (id),
    sid TEXT NOT NULL,
    computer_name TEXT,
    PRIMARY KEY (machine, sid)
);
CREATE INDEX windows_sids_by_sid ON windows_sids (sid);
