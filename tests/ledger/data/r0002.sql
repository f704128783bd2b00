BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('r0002');
CREATE TABLE circuits (
	execution_id TEXT NOT NULL, 
	text TEXT NOT NULL, 
	PRIMARY KEY (execution_id), 
	FOREIGN KEY(execution_id) REFERENCES jobs (execution_id) ON DELETE CASCADE
);
INSERT INTO "circuits" VALUES('job-ready','OPENQASM 2.0; qreg q[1]; creg c[1]; measure q -> c;');
INSERT INTO "circuits" VALUES('job-submitting','OPENQASM 2.0; qreg q[1]; creg c[1]; measure q -> c;');
INSERT INTO "circuits" VALUES('job-waiting','OPENQASM 2.0; qreg q[1]; creg c[1]; measure q -> c;');
INSERT INTO "circuits" VALUES('job-settled','OPENQASM 2.0; qreg q[1]; creg c[1]; measure q -> c;');
INSERT INTO "circuits" VALUES('job-closed','OPENQASM 2.0; qreg q[1]; creg c[1]; measure q -> c;');
INSERT INTO "circuits" VALUES('job-held','OPENQASM 2.0; qreg q[1]; creg c[1]; measure q -> c;');
CREATE TABLE jobs (
	execution_id TEXT NOT NULL, 
	validator_hotkey TEXT NOT NULL, 
	shots BIGINT NOT NULL, 
	configuration_data TEXT NOT NULL, 
	received_at BIGINT NOT NULL, 
	deadline_at BIGINT NOT NULL, 
	due_at BIGINT NOT NULL, 
	state TEXT NOT NULL, 
	verdict TEXT, 
	version INTEGER NOT NULL, 
	attempts INTEGER NOT NULL, 
	input_data_url BLOB, 
	circuit_sha256 TEXT, 
	provider TEXT, 
	device_id TEXT, 
	token TEXT, 
	submit_attempts INTEGER NOT NULL, 
	submit_started_at BIGINT, 
	estimate_amount TEXT, 
	estimate_currency TEXT, 
	provider_job_id TEXT, 
	handle TEXT, 
	submitted_at BIGINT, 
	vendor_status TEXT, 
	cancel_requested_at BIGINT, 
	upload_id TEXT, 
	error_code TEXT, 
	error TEXT, 
	settled_at BIGINT, 
	closed_at BIGINT, 
	cursor_seq BIGINT, prepared TEXT, 
	PRIMARY KEY (execution_id), 
	CONSTRAINT jobs_state CHECK (state IN ('accepted', 'ready', 'submitting', 'waiting', 'settled', 'closed', 'held')), 
	CONSTRAINT jobs_verdict CHECK (verdict IN ('succeeded', 'failed', 'cancelled', 'refused')), 
	CONSTRAINT jobs_numbered_when_closed CHECK ((state = 'closed') = (cursor_seq IS NOT NULL)), 
	CONSTRAINT jobs_timed_when_numbered CHECK ((cursor_seq IS NULL) = (closed_at IS NULL)), 
	CONSTRAINT jobs_verdict_when_closed CHECK (cursor_seq IS NULL OR verdict IS NOT NULL)
);
INSERT INTO "jobs" VALUES('job-accepted','5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY',100,'{}',1795258661798645,1795863461798645,1795258661798645,'accepted',NULL,0,0,X'674141414141427241586B6C4D6F51327177454339614B2D3474756252615A64675A4376797145306A7835517452556D796D6147534F69694D677934737843463137726F4435464D6542475F73457053786F47327378416338676731784257443131345664725377796647775373634E465F58706662465073766B556B43574E3837436C7A375946774D53685F5F4555583433336853734C5371484A736F3461305368496D316C71422D525875454F654A79695467466F3D',NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES('job-ready','5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY',100,'{}',1795258661847148,1795863461847148,1795258661847148,'ready',NULL,1,0,NULL,'571bd0a328a36f15d29d781699cab833f993a2ebcb77e4f6b3fdbe18384fb0b6',NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES('job-submitting','5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY',100,'{}',1795258661863253,1795863461863253,1795258661863253,'submitting',NULL,2,0,NULL,'571bd0a328a36f15d29d781699cab833f993a2ebcb77e4f6b3fdbe18384fb0b6','mock','mock_qpu_1','76720a6e-40ed-5ea8-b83e-bec15459f3c0',0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES('job-waiting','5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY',100,'{}',1795258661879116,1795863461879116,1795258661879116,'waiting',NULL,4,0,NULL,'571bd0a328a36f15d29d781699cab833f993a2ebcb77e4f6b3fdbe18384fb0b6','mock','mock_qpu_1','341fdbe2-9dae-5890-b636-4820346cb1a6',1,1795258661879116,NULL,NULL,'vendor-job-waiting','{"provider_job_id":"vendor-job-waiting","device_id":"mock_qpu_1"}',1795258661879116,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'{"measurement":null,"translation":null,"pack_index":null}');
INSERT INTO "jobs" VALUES('job-settled','5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY',100,'{}',1795258661903143,1795863461903143,1795258661903143,'settled','succeeded',5,0,NULL,'571bd0a328a36f15d29d781699cab833f993a2ebcb77e4f6b3fdbe18384fb0b6','mock','mock_qpu_1','840d92aa-7593-568c-b115-934b6b4216fa',1,1795258661903143,NULL,NULL,'vendor-job-settled','{"provider_job_id":"vendor-job-settled","device_id":"mock_qpu_1"}',1795258661903143,NULL,NULL,NULL,NULL,NULL,1795258661903143,NULL,NULL,'{"measurement":null,"translation":null,"pack_index":null}');
INSERT INTO "jobs" VALUES('job-closed','5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY',100,'{}',1795258661931169,1795863461931169,1795258661931169,'closed','succeeded',6,0,NULL,'571bd0a328a36f15d29d781699cab833f993a2ebcb77e4f6b3fdbe18384fb0b6','mock','mock_qpu_1','058e5807-5cce-5a7c-b78d-36f31461ffc7',1,1795258661931169,NULL,NULL,'vendor-job-closed','{"provider_job_id":"vendor-job-closed","device_id":"mock_qpu_1"}',1795258661931169,NULL,NULL,'up-job-closed',NULL,NULL,1795258661931169,1795258661955639,1,'{"measurement":null,"translation":null,"pack_index":null}');
INSERT INTO "jobs" VALUES('job-held','5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY',100,'{}',1795258661959182,1795863461959182,1795345061959182,'held',NULL,4,0,NULL,'571bd0a328a36f15d29d781699cab833f993a2ebcb77e4f6b3fdbe18384fb0b6','mock','mock_qpu_1','aa403330-741e-57c9-bcfd-f53584edc2ec',1,1795258661959182,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'submit_unknown','it may have been submitted',NULL,NULL,NULL,'{"measurement":null,"translation":null,"pack_index":null}');
CREATE TABLE meta (
	one INTEGER NOT NULL CONSTRAINT meta_one_row CHECK (one = 1), 
	ledger_id TEXT NOT NULL, 
	last_cursor_seq BIGINT NOT NULL, 
	last_closed_at BIGINT NOT NULL, 
	PRIMARY KEY (one)
);
INSERT INTO "meta" VALUES(1,'15db0cdc4ab6',1,1795258661955639);
CREATE TABLE nonces (
	hotkey TEXT NOT NULL, 
	scope TEXT NOT NULL, 
	value_ns BIGINT NOT NULL, 
	PRIMARY KEY (hotkey, scope)
)
 WITHOUT ROWID

;
INSERT INTO "nonces" VALUES('5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY','job-accepted',1795258721798670606);
INSERT INTO "nonces" VALUES('5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY','job-ready',1795258721847175644);
INSERT INTO "nonces" VALUES('5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY','job-submitting',1795258721863281624);
INSERT INTO "nonces" VALUES('5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY','job-waiting',1795258721879132347);
INSERT INTO "nonces" VALUES('5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY','job-settled',1795258721903158103);
INSERT INTO "nonces" VALUES('5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY','job-closed',1795258721931186762);
INSERT INTO "nonces" VALUES('5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY','job-held',1795258721959204370);
CREATE TABLE outcomes (
	execution_id TEXT NOT NULL, 
	counts TEXT, 
	counts_source TEXT, 
	shots_returned BIGINT, 
	cost_amount TEXT, 
	cost_currency TEXT, 
	cost_kind TEXT NOT NULL, 
	message TEXT, 
	timestamps TEXT NOT NULL, 
	metadata TEXT NOT NULL, 
	PRIMARY KEY (execution_id), 
	FOREIGN KEY(execution_id) REFERENCES jobs (execution_id) ON DELETE CASCADE
);
INSERT INTO "outcomes" VALUES('job-settled','{"0":60,"1":40}','measured',100,NULL,NULL,'unknown',NULL,'{}','{}');
INSERT INTO "outcomes" VALUES('job-closed','{"0":60,"1":40}','measured',100,NULL,NULL,'unknown',NULL,'{}','{}');
CREATE TABLE receipts (
	execution_id TEXT NOT NULL, 
	document TEXT NOT NULL, 
	PRIMARY KEY (execution_id), 
	FOREIGN KEY(execution_id) REFERENCES jobs (execution_id) ON DELETE CASCADE
);
INSERT INTO "receipts" VALUES('job-settled','{"circuit_sha256":"571bd0a328a36f15d29d781699cab833f993a2ebcb77e4f6b3fdbe18384fb0b6","cost":{"amount":null,"currency":null,"kind":"unknown"},"counts_sha256":"e58512e5fa9bb0f096cf5fd2bc6c59b0bf0b3f961755fe890898f886fb564a8f","counts_source":"measured","device_id":"mock_qpu_1","execution_id":"job-settled","message":null,"miner_hotkey":"5FhGKFZQo8VWY13e7gVpdRryjbQMNdMT5QTQRsWmwUGvMDHK","provider":"mock","provider_job_id":"vendor-job-settled","shots_requested":100,"shots_returned":100,"signature":"0x348433d6b6187dbdcd8a97ab290bc571c6c38bd640e1132c7be9e83edd4f826c8ad3ffb2ad1268d55fa0e8936e33d2f5920f3c4f8579c5f0241361189e55e783","timestamps":{"received":"2026-11-21T10:57:41.903143Z","settled":"2026-11-21T10:57:41.903143Z","submitted":"2026-11-21T10:57:41.903143Z","vendor":{}},"validator_hotkey":"5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY","verdict":"succeeded","version":"qcompute-receipt/1"}');
INSERT INTO "receipts" VALUES('job-closed','{"circuit_sha256":"571bd0a328a36f15d29d781699cab833f993a2ebcb77e4f6b3fdbe18384fb0b6","cost":{"amount":null,"currency":null,"kind":"unknown"},"counts_sha256":"e58512e5fa9bb0f096cf5fd2bc6c59b0bf0b3f961755fe890898f886fb564a8f","counts_source":"measured","device_id":"mock_qpu_1","execution_id":"job-closed","message":null,"miner_hotkey":"5FhGKFZQo8VWY13e7gVpdRryjbQMNdMT5QTQRsWmwUGvMDHK","provider":"mock","provider_job_id":"vendor-job-closed","shots_requested":100,"shots_returned":100,"signature":"0x66c17c9834890001f5bac5ec93d44aa976e5f65b2fec19d6ddcba05b7c64272e21eeb70caf522ad5b5e41e035e83d01feaee6bff148119471d4f902926190081","timestamps":{"received":"2026-11-21T10:57:41.931169Z","settled":"2026-11-21T10:57:41.931169Z","submitted":"2026-11-21T10:57:41.931169Z","vendor":{}},"validator_hotkey":"5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY","verdict":"succeeded","version":"qcompute-receipt/1"}');
CREATE TABLE used_nonces (
	hotkey TEXT NOT NULL, 
	scope TEXT NOT NULL, 
	value_ns BIGINT NOT NULL, 
	PRIMARY KEY (hotkey, scope, value_ns)
)
 WITHOUT ROWID

;
CREATE INDEX jobs_due ON jobs (state, due_at, execution_id);
CREATE UNIQUE INDEX jobs_closing_order ON jobs (cursor_seq) WHERE cursor_seq IS NOT NULL;
CREATE UNIQUE INDEX jobs_closing_time ON jobs (closed_at) WHERE closed_at IS NOT NULL;
CREATE INDEX nonces_age ON nonces (value_ns);
CREATE INDEX used_nonces_age ON used_nonces (value_ns);
COMMIT;
