-- A registry of schema 2, from before the device model: what 0.1 wrote, taken over, and a firmware download in progress.
CREATE TABLE devices (
    type_id TEXT NOT NULL, device_id TEXT NOT NULL,
    registered_ms INTEGER NOT NULL, last_seen_ms INTEGER NOT NULL,
    device_info TEXT NOT NULL, metadata TEXT NOT NULL, location TEXT, manages TEXT NOT NULL,
    -- the management; all NULL while unmanaged, but for dormant_ms, which is also NULL when it never ends
    since_ms INTEGER, manage_ms INTEGER, dormant_ms INTEGER, device_actions INTEGER, firmware_actions INTEGER,
    bundles TEXT, firmware TEXT, observed TEXT,
    PRIMARY KEY (type_id, device_id)
) STRICT, WITHOUT ROWID;
INSERT INTO "devices" VALUES('edge','gw-1',1714557600000,1714557600000,'{"fwVersion":"1.0"}','{}',NULL,'["m1","m2"]',1714557600000,1714557600000,1714644000000,1,0,'{}','{}','[]');
INSERT INTO "devices" VALUES('edge','gw-2',1714557600000,1714557600000,'{"fwVersion":"2.0","rack":"7"}','{"site":"north"}','{"longitude":2.5,"latitude":1.5,"measuredDateTime":"2024-05-01T09:59:00Z","updatedDateTime":"2024-05-01T10:00:00Z"}','["m1"]',1714557600000,1714557600000,NULL,1,1,'{}','{"version":"2.0","state":1}','["mgmt.firmware"]');
CREATE TABLE error_codes (
    id INTEGER PRIMARY KEY AUTOINCREMENT, type_id TEXT NOT NULL, device_id TEXT NOT NULL,
    received_ms INTEGER NOT NULL, code INTEGER NOT NULL, req_id TEXT
) STRICT;
CREATE TABLE logs (
    id INTEGER PRIMARY KEY AUTOINCREMENT, type_id TEXT NOT NULL, device_id TEXT NOT NULL,
    received_ms INTEGER NOT NULL, timestamp TEXT NOT NULL, severity INTEGER NOT NULL, message TEXT NOT NULL,
    data BLOB, req_id TEXT, bytes INTEGER NOT NULL
) STRICT;
INSERT INTO "logs" VALUES(1,'edge','gw-1',1714557600000,'2024-05-01T10:00:00Z',2,'an error',NULL,'l1',9);
CREATE TABLE requests (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, action TEXT NOT NULL, parameters TEXT NOT NULL,
    created_ms INTEGER NOT NULL, deadline_ms INTEGER NOT NULL
) STRICT;
INSERT INTO "requests" VALUES(1,'4f3c7b9e-6f0c-4a55-9a51-1e6a6bfa2a10','device/reboot','[]',1714557600000,1714561200000);
INSERT INTO "requests" VALUES(2,'4f3c7b9e-6f0c-4a55-9a51-1e6a6bfa2a11','device/reboot','[]',1714557600000,1714561200000);
INSERT INTO "requests" VALUES(3,'4f3c7b9e-6f0c-4a55-9a51-1e6a6bfa2a12','device/reboot','[]',1714557600000,1714561200000);
INSERT INTO "requests" VALUES(4,'4f3c7b9e-6f0c-4a55-9a51-1e6a6bfa2a13','firmware/download','[{"name":"uri","value":"https://fw.example.com/2"}]',1714557600000,1714644000000);
CREATE TABLE statuses (
    request INTEGER NOT NULL, type_id TEXT NOT NULL, device_id TEXT NOT NULL, req_id TEXT NOT NULL,
    status INTEGER NOT NULL, rc INTEGER, message TEXT,
    requested_ms INTEGER NOT NULL, sent_ms INTEGER, accepted_ms INTEGER, completed_ms INTEGER,
    updated_ms INTEGER NOT NULL, step TEXT NOT NULL DEFAULT 'initiate', step_ms INTEGER NOT NULL DEFAULT 0, outcome INTEGER, state INTEGER, update_status INTEGER,
    PRIMARY KEY (request, type_id, device_id)
) STRICT, WITHOUT ROWID;
INSERT INTO "statuses" VALUES(1,'edge','gw-1','r1',0,202,NULL,1714557600000,1714557600000,1714557600000,1714557630000,1714557630000,'working',1714557630000,NULL,NULL,NULL);
INSERT INTO "statuses" VALUES(2,'edge','gw-1','r2',1,202,NULL,1714557600000,1714557600000,1714557600000,NULL,1714557600000,'working',1714557600000,NULL,NULL,NULL);
INSERT INTO "statuses" VALUES(3,'edge','gw-1','r3',1,NULL,NULL,1714557600000,NULL,NULL,NULL,1714557600000,'initiate',1714557600000,NULL,NULL,NULL);
INSERT INTO "statuses" VALUES(4,'edge','gw-2','r4',1,202,NULL,1714557600000,1714557600000,1714557600000,NULL,1714557600000,'working',1714557600000,NULL,1,NULL);
CREATE INDEX logs_of_device ON logs (type_id, device_id, id);
CREATE INDEX logs_by_age ON logs (received_ms);
CREATE INDEX error_codes_of_device ON error_codes (type_id, device_id, id);
PRAGMA user_version = 2;
