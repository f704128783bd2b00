BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('r0004');
CREATE TABLE charges (
	execution_id TEXT NOT NULL, 
	account TEXT NOT NULL, 
	amount TEXT NOT NULL, 
	currency TEXT NOT NULL, 
	charged_at BIGINT NOT NULL, 
	settled_at BIGINT, 
	PRIMARY KEY (execution_id)
)
 WITHOUT ROWID

;
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
INSERT INTO "jobs" VALUES('job-accepted','5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY',100,'{}',1795267781608088,1795872581608088,1795267781608088,'accepted',NULL,0,0,X'6741414141414272415A7A466D706D79396A7267376D716F44716A4433316968714A4C476376305538735646585454714D44554F697670536E6B62702D726257594D44753869356E55375578316A7573566D5671556A777961473879434555705A2D565F517535636562584D33586469653478674C6F4768666E774264416D31615345756A415572395035622D7665544A6F6C5A575A53756E2D75514E4F5F496A5F4B7836644E67697138385439506C4B724B4C506E453D',NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES('job-ready','5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY',100,'{}',1795267781647663,1795872581647663,1795267781647663,'ready',NULL,1,0,NULL,'571bd0a328a36f15d29d781699cab833f993a2ebcb77e4f6b3fdbe18384fb0b6',NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES('job-submitting','5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY',100,'{}',1795267781670822,1795872581670822,1795267781670822,'submitting',NULL,2,0,NULL,'571bd0a328a36f15d29d781699cab833f993a2ebcb77e4f6b3fdbe18384fb0b6','mock','mock_qpu_1','76720a6e-40ed-5ea8-b83e-bec15459f3c0',0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES('job-waiting','5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY',100,'{}',1795267781699208,1795872581699208,1795267781699208,'waiting',NULL,4,0,NULL,'571bd0a328a36f15d29d781699cab833f993a2ebcb77e4f6b3fdbe18384fb0b6','mock','mock_qpu_1','341fdbe2-9dae-5890-b636-4820346cb1a6',1,1795267781699208,NULL,NULL,'vendor-job-waiting','{"provider_job_id":"vendor-job-waiting","device_id":"mock_qpu_1"}',1795267781699208,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'{"measurement":null,"translation":null,"pack_index":null}');
INSERT INTO "jobs" VALUES('job-settled','5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY',100,'{}',1795267781731164,1795872581731164,1795267781731164,'settled','succeeded',5,0,NULL,'571bd0a328a36f15d29d781699cab833f993a2ebcb77e4f6b3fdbe18384fb0b6','mock','mock_qpu_1','840d92aa-7593-568c-b115-934b6b4216fa',1,1795267781731164,NULL,NULL,'vendor-job-settled','{"provider_job_id":"vendor-job-settled","device_id":"mock_qpu_1"}',1795267781731164,NULL,NULL,NULL,NULL,NULL,1795267781731164,NULL,NULL,'{"measurement":null,"translation":null,"pack_index":null}');
INSERT INTO "jobs" VALUES('job-closed','5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY',100,'{}',1795267781775317,1795872581775317,1795267781775317,'closed','succeeded',6,0,NULL,'571bd0a328a36f15d29d781699cab833f993a2ebcb77e4f6b3fdbe18384fb0b6','mock','mock_qpu_1','058e5807-5cce-5a7c-b78d-36f31461ffc7',1,1795267781775317,NULL,NULL,'vendor-job-closed','{"provider_job_id":"vendor-job-closed","device_id":"mock_qpu_1"}',1795267781775317,NULL,NULL,'up-job-closed',NULL,NULL,1795267781775317,1795267781808474,1,'{"measurement":null,"translation":null,"pack_index":null}');
INSERT INTO "jobs" VALUES('job-held','5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY',100,'{}',1795267781811158,1795872581811158,1795354181811158,'held',NULL,4,0,NULL,'571bd0a328a36f15d29d781699cab833f993a2ebcb77e4f6b3fdbe18384fb0b6','mock','mock_qpu_1','aa403330-741e-57c9-bcfd-f53584edc2ec',1,1795267781811158,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'submit_unknown','it may have been submitted',NULL,NULL,NULL,'{"measurement":null,"translation":null,"pack_index":null}');
CREATE TABLE meta (
	one INTEGER NOT NULL CONSTRAINT meta_one_row CHECK (one = 1), 
	ledger_id TEXT NOT NULL, 
	last_cursor_seq BIGINT NOT NULL, 
	last_closed_at BIGINT NOT NULL, key_check BLOB, 
	PRIMARY KEY (one)
);
INSERT INTO "meta" VALUES(1,'7ec681641fe0',1,1795267781808474,NULL);
CREATE TABLE nonces (
	hotkey TEXT NOT NULL, 
	scope TEXT NOT NULL, 
	value_ns BIGINT NOT NULL, 
	PRIMARY KEY (hotkey, scope)
)
 WITHOUT ROWID

;
INSERT INTO "nonces" VALUES('5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY','job-accepted',1795267841608121980);
INSERT INTO "nonces" VALUES('5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY','job-ready',1795267841647694181);
INSERT INTO "nonces" VALUES('5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY','job-submitting',1795267841670847268);
INSERT INTO "nonces" VALUES('5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY','job-waiting',1795267841699231252);
INSERT INTO "nonces" VALUES('5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY','job-settled',1795267841731181252);
INSERT INTO "nonces" VALUES('5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY','job-closed',1795267841775343072);
INSERT INTO "nonces" VALUES('5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY','job-held',1795267841811174108);
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
INSERT INTO "receipts" VALUES('job-settled','{"circuit_sha256":"571bd0a328a36f15d29d781699cab833f993a2ebcb77e4f6b3fdbe18384fb0b6","cost":{"amount":null,"currency":null,"kind":"unknown"},"counts_sha256":"e58512e5fa9bb0f096cf5fd2bc6c59b0bf0b3f961755fe890898f886fb564a8f","counts_source":"measured","device_id":"mock_qpu_1","execution_id":"job-settled","message":null,"miner_hotkey":"5FhGKFZQo8VWY13e7gVpdRryjbQMNdMT5QTQRsWmwUGvMDHK","provider":"mock","provider_job_id":"vendor-job-settled","shots_requested":100,"shots_returned":100,"signature":"0x8ab7cddecf50e226358c7057384b2b7b94b71c6e75bab23556312eabb378d61421f90a3ad110f48596960593ff07d1e01c4ecdae9d4fe3210a0358973eb31a83","timestamps":{"received":"2026-11-21T13:29:41.731164Z","settled":"2026-11-21T13:29:41.731164Z","submitted":"2026-11-21T13:29:41.731164Z","vendor":{}},"validator_hotkey":"5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY","verdict":"succeeded","version":"qcompute-receipt/1"}');
INSERT INTO "receipts" VALUES('job-closed','{"circuit_sha256":"571bd0a328a36f15d29d781699cab833f993a2ebcb77e4f6b3fdbe18384fb0b6","cost":{"amount":null,"currency":null,"kind":"unknown"},"counts_sha256":"e58512e5fa9bb0f096cf5fd2bc6c59b0bf0b3f961755fe890898f886fb564a8f","counts_source":"measured","device_id":"mock_qpu_1","execution_id":"job-closed","message":null,"miner_hotkey":"5FhGKFZQo8VWY13e7gVpdRryjbQMNdMT5QTQRsWmwUGvMDHK","provider":"mock","provider_job_id":"vendor-job-closed","shots_requested":100,"shots_returned":100,"signature":"0xaae9315341ac29126bc95967d9a8ebee4d59908e2301044fdbd13f342ebb31343a1c2a2619b94f9413b5b741363cced2ef00a57951fded50522f393c52f2cc87","timestamps":{"received":"2026-11-21T13:29:41.775317Z","settled":"2026-11-21T13:29:41.775317Z","submitted":"2026-11-21T13:29:41.775317Z","vendor":{}},"validator_hotkey":"5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY","verdict":"succeeded","version":"qcompute-receipt/1"}');
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
CREATE INDEX charges_time ON charges (charged_at, account);
CREATE INDEX charges_open ON charges (account) WHERE settled_at IS NULL;
COMMIT;
