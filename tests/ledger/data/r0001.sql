BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('r0001');
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
	cursor_seq BIGINT, 
	PRIMARY KEY (execution_id), 
	CONSTRAINT jobs_state CHECK (state IN ('accepted', 'ready', 'submitting', 'waiting', 'settled', 'closed', 'held')), 
	CONSTRAINT jobs_verdict CHECK (verdict IN ('succeeded', 'failed', 'cancelled', 'refused')), 
	CONSTRAINT jobs_numbered_when_closed CHECK ((state = 'closed') = (cursor_seq IS NOT NULL)), 
	CONSTRAINT jobs_timed_when_numbered CHECK ((cursor_seq IS NULL) = (closed_at IS NULL)), 
	CONSTRAINT jobs_verdict_when_closed CHECK (cursor_seq IS NULL OR verdict IS NOT NULL)
);
INSERT INTO "jobs" VALUES('job-accepted','5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY',100,'{}',1795258661053604,1795863461053604,1795258661053604,'accepted',NULL,0,0,X'674141414141427241586B6C47545539736B4B584A5179673050684C55765A39336D2D4F6C6564714B7063476C4A3042484838436B575F7A684B74354237796C63574F53695F6A6A433478373078774B7730774A465A4B433066495754564868476369373464784B51456951536D356D58494B375F6A415A473964307A356C30754A523869367A72643436345F7368774D785F4579336E5761622D5F544655686C584B6930655246486877315847766951746A444B6E633D',NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES('job-ready','5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY',100,'{}',1795258661093037,1795863461093037,1795258661093037,'ready',NULL,1,0,NULL,'571bd0a328a36f15d29d781699cab833f993a2ebcb77e4f6b3fdbe18384fb0b6',NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES('job-submitting','5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY',100,'{}',1795258661115224,1795863461115224,1795258661115224,'submitting',NULL,2,0,NULL,'571bd0a328a36f15d29d781699cab833f993a2ebcb77e4f6b3fdbe18384fb0b6','mock','mock_qpu_1','76720a6e-40ed-5ea8-b83e-bec15459f3c0',0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES('job-waiting','5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY',100,'{}',1795258661143202,1795863461143202,1795258661143202,'waiting',NULL,4,0,NULL,'571bd0a328a36f15d29d781699cab833f993a2ebcb77e4f6b3fdbe18384fb0b6','mock','mock_qpu_1','341fdbe2-9dae-5890-b636-4820346cb1a6',1,1795258661143202,NULL,NULL,'vendor-job-waiting','{"provider_job_id":"vendor-job-waiting","device_id":"mock_qpu_1"}',1795258661143202,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES('job-settled','5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY',100,'{}',1795258661179246,1795863461179246,1795258661179246,'settled','succeeded',5,0,NULL,'571bd0a328a36f15d29d781699cab833f993a2ebcb77e4f6b3fdbe18384fb0b6','mock','mock_qpu_1','840d92aa-7593-568c-b115-934b6b4216fa',1,1795258661179246,NULL,NULL,'vendor-job-settled','{"provider_job_id":"vendor-job-settled","device_id":"mock_qpu_1"}',1795258661179246,NULL,NULL,NULL,NULL,NULL,1795258661179246,NULL,NULL);
INSERT INTO "jobs" VALUES('job-closed','5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY',100,'{}',1795258661236727,1795863461236727,1795258661236727,'closed','succeeded',6,0,NULL,'571bd0a328a36f15d29d781699cab833f993a2ebcb77e4f6b3fdbe18384fb0b6','mock','mock_qpu_1','058e5807-5cce-5a7c-b78d-36f31461ffc7',1,1795258661236727,NULL,NULL,'vendor-job-closed','{"provider_job_id":"vendor-job-closed","device_id":"mock_qpu_1"}',1795258661236727,NULL,NULL,'up-job-closed',NULL,NULL,1795258661236727,1795258661275648,1);
INSERT INTO "jobs" VALUES('job-held','5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY',100,'{}',1795258661283284,1795863461283284,1795345061283284,'held',NULL,4,0,NULL,'571bd0a328a36f15d29d781699cab833f993a2ebcb77e4f6b3fdbe18384fb0b6','mock','mock_qpu_1','aa403330-741e-57c9-bcfd-f53584edc2ec',1,1795258661283284,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'submit_unknown','it may have been submitted',NULL,NULL,NULL);
CREATE TABLE meta (
	one INTEGER NOT NULL CONSTRAINT meta_one_row CHECK (one = 1), 
	ledger_id TEXT NOT NULL, 
	last_cursor_seq BIGINT NOT NULL, 
	last_closed_at BIGINT NOT NULL, 
	PRIMARY KEY (one)
);
INSERT INTO "meta" VALUES(1,'d667e117b0a3',1,1795258661275648);
CREATE TABLE nonces (
	hotkey TEXT NOT NULL, 
	scope TEXT NOT NULL, 
	value_ns BIGINT NOT NULL, 
	PRIMARY KEY (hotkey, scope)
)
 WITHOUT ROWID

;
INSERT INTO "nonces" VALUES('5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY','job-accepted',1795258721053625115);
INSERT INTO "nonces" VALUES('5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY','job-ready',1795258721093054429);
INSERT INTO "nonces" VALUES('5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY','job-submitting',1795258721115245399);
INSERT INTO "nonces" VALUES('5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY','job-waiting',1795258721143220028);
INSERT INTO "nonces" VALUES('5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY','job-settled',1795258721179265224);
INSERT INTO "nonces" VALUES('5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY','job-closed',1795258721236745508);
INSERT INTO "nonces" VALUES('5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY','job-held',1795258721283311176);
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
INSERT INTO "receipts" VALUES('job-settled','{"circuit_sha256":"571bd0a328a36f15d29d781699cab833f993a2ebcb77e4f6b3fdbe18384fb0b6","cost":{"amount":null,"currency":null,"kind":"unknown"},"counts_sha256":"e58512e5fa9bb0f096cf5fd2bc6c59b0bf0b3f961755fe890898f886fb564a8f","counts_source":"measured","device_id":"mock_qpu_1","execution_id":"job-settled","message":null,"miner_hotkey":"5FhGKFZQo8VWY13e7gVpdRryjbQMNdMT5QTQRsWmwUGvMDHK","provider":"mock","provider_job_id":"vendor-job-settled","shots_requested":100,"shots_returned":100,"signature":"0xf44f46e99cd583d59c430b24d3f484159ef04b5679f62f2d55d8ddb5820bab1df837c39f14af4a334a7be0e7814f064df86c2c9beec8f91cf6ceada0a206f389","timestamps":{"received":"2026-11-21T10:57:41.179246Z","settled":"2026-11-21T10:57:41.179246Z","submitted":"2026-11-21T10:57:41.179246Z","vendor":{}},"validator_hotkey":"5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY","verdict":"succeeded","version":"qcompute-receipt/1"}');
INSERT INTO "receipts" VALUES('job-closed','{"circuit_sha256":"571bd0a328a36f15d29d781699cab833f993a2ebcb77e4f6b3fdbe18384fb0b6","cost":{"amount":null,"currency":null,"kind":"unknown"},"counts_sha256":"e58512e5fa9bb0f096cf5fd2bc6c59b0bf0b3f961755fe890898f886fb564a8f","counts_source":"measured","device_id":"mock_qpu_1","execution_id":"job-closed","message":null,"miner_hotkey":"5FhGKFZQo8VWY13e7gVpdRryjbQMNdMT5QTQRsWmwUGvMDHK","provider":"mock","provider_job_id":"vendor-job-closed","shots_requested":100,"shots_returned":100,"signature":"0xa404194e0d3564e304731d68fe0bc0e99732c87d6f576ddbbce538a3662f7276f007c182c635ed6edd053898d97aaea73e7ec4695ea23b1ab54455949bfb0e82","timestamps":{"received":"2026-11-21T10:57:41.236727Z","settled":"2026-11-21T10:57:41.236727Z","submitted":"2026-11-21T10:57:41.236727Z","vendor":{}},"validator_hotkey":"5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY","verdict":"succeeded","version":"qcompute-receipt/1"}');
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
