BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('r0003');
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
INSERT INTO "jobs" VALUES('job-accepted','5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY',100,'{}',1795262317773877,1795867117773877,1795262317773877,'accepted',NULL,0,0,X'6741414141414272415964745F70447347766F526D6553445033356D786C31346D394A333941584C6F4265664865522D3643796349584D5362554E2D33495F4A596B376D52497154492D77724F734544784F476471566A5448436A6D45306548504C454653426656767265624D726B684F326E4F5056776C50675861686366645F787A36644E55627656497536634374354A5437522D44735F525162387732475547503850393076304F55474842596F3063346F3032513D',NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES('job-ready','5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY',100,'{}',1795262317785353,1795867117785353,1795262317785353,'ready',NULL,1,0,NULL,'571bd0a328a36f15d29d781699cab833f993a2ebcb77e4f6b3fdbe18384fb0b6',NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES('job-submitting','5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY',100,'{}',1795262317791901,1795867117791901,1795262317791901,'submitting',NULL,2,0,NULL,'571bd0a328a36f15d29d781699cab833f993a2ebcb77e4f6b3fdbe18384fb0b6','mock','mock_qpu_1','76720a6e-40ed-5ea8-b83e-bec15459f3c0',0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES('job-waiting','5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY',100,'{}',1795262317795679,1795867117795679,1795262317795679,'waiting',NULL,4,0,NULL,'571bd0a328a36f15d29d781699cab833f993a2ebcb77e4f6b3fdbe18384fb0b6','mock','mock_qpu_1','341fdbe2-9dae-5890-b636-4820346cb1a6',1,1795262317795679,NULL,NULL,'vendor-job-waiting','{"provider_job_id":"vendor-job-waiting","device_id":"mock_qpu_1"}',1795262317795679,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'{"measurement":null,"translation":null,"pack_index":null}');
INSERT INTO "jobs" VALUES('job-settled','5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY',100,'{}',1795262317802009,1795867117802009,1795262317802009,'settled','succeeded',5,0,NULL,'571bd0a328a36f15d29d781699cab833f993a2ebcb77e4f6b3fdbe18384fb0b6','mock','mock_qpu_1','840d92aa-7593-568c-b115-934b6b4216fa',1,1795262317802009,NULL,NULL,'vendor-job-settled','{"provider_job_id":"vendor-job-settled","device_id":"mock_qpu_1"}',1795262317802009,NULL,NULL,NULL,NULL,NULL,1795262317802009,NULL,NULL,'{"measurement":null,"translation":null,"pack_index":null}');
INSERT INTO "jobs" VALUES('job-closed','5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY',100,'{}',1795262317810112,1795867117810112,1795262317810112,'closed','succeeded',6,0,NULL,'571bd0a328a36f15d29d781699cab833f993a2ebcb77e4f6b3fdbe18384fb0b6','mock','mock_qpu_1','058e5807-5cce-5a7c-b78d-36f31461ffc7',1,1795262317810112,NULL,NULL,'vendor-job-closed','{"provider_job_id":"vendor-job-closed","device_id":"mock_qpu_1"}',1795262317810112,NULL,NULL,'up-job-closed',NULL,NULL,1795262317810112,1795262317819661,1,'{"measurement":null,"translation":null,"pack_index":null}');
INSERT INTO "jobs" VALUES('job-held','5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY',100,'{}',1795262317821147,1795867117821147,1795348717821147,'held',NULL,4,0,NULL,'571bd0a328a36f15d29d781699cab833f993a2ebcb77e4f6b3fdbe18384fb0b6','mock','mock_qpu_1','aa403330-741e-57c9-bcfd-f53584edc2ec',1,1795262317821147,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'submit_unknown','it may have been submitted',NULL,NULL,NULL,'{"measurement":null,"translation":null,"pack_index":null}');
CREATE TABLE meta (
	one INTEGER NOT NULL CONSTRAINT meta_one_row CHECK (one = 1), 
	ledger_id TEXT NOT NULL, 
	last_cursor_seq BIGINT NOT NULL, 
	last_closed_at BIGINT NOT NULL, 
	PRIMARY KEY (one)
);
INSERT INTO "meta" VALUES(1,'71e3fc93fc5c',1,1795262317819661);
CREATE TABLE nonces (
	hotkey TEXT NOT NULL, 
	scope TEXT NOT NULL, 
	value_ns BIGINT NOT NULL, 
	PRIMARY KEY (hotkey, scope)
)
 WITHOUT ROWID

;
INSERT INTO "nonces" VALUES('5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY','job-accepted',1795262377773900817);
INSERT INTO "nonces" VALUES('5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY','job-ready',1795262377785370440);
INSERT INTO "nonces" VALUES('5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY','job-submitting',1795262377791916211);
INSERT INTO "nonces" VALUES('5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY','job-waiting',1795262377795693353);
INSERT INTO "nonces" VALUES('5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY','job-settled',1795262377802020786);
INSERT INTO "nonces" VALUES('5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY','job-closed',1795262377810131896);
INSERT INTO "nonces" VALUES('5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY','job-held',1795262377821159363);
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
INSERT INTO "receipts" VALUES('job-settled','{"circuit_sha256":"571bd0a328a36f15d29d781699cab833f993a2ebcb77e4f6b3fdbe18384fb0b6","cost":{"amount":null,"currency":null,"kind":"unknown"},"counts_sha256":"e58512e5fa9bb0f096cf5fd2bc6c59b0bf0b3f961755fe890898f886fb564a8f","counts_source":"measured","device_id":"mock_qpu_1","execution_id":"job-settled","message":null,"miner_hotkey":"5FhGKFZQo8VWY13e7gVpdRryjbQMNdMT5QTQRsWmwUGvMDHK","provider":"mock","provider_job_id":"vendor-job-settled","shots_requested":100,"shots_returned":100,"signature":"0x5816b73b99adf59a7f72d8c8b7de76458d6bab418863634bbce35de9ec893b4191127c6e5f33f20e016c4717d2288302d1b1cac81e7cb5c3bd6560f48dd1ed8b","timestamps":{"received":"2026-11-21T11:58:37.802009Z","settled":"2026-11-21T11:58:37.802009Z","submitted":"2026-11-21T11:58:37.802009Z","vendor":{}},"validator_hotkey":"5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY","verdict":"succeeded","version":"qcompute-receipt/1"}');
INSERT INTO "receipts" VALUES('job-closed','{"circuit_sha256":"571bd0a328a36f15d29d781699cab833f993a2ebcb77e4f6b3fdbe18384fb0b6","cost":{"amount":null,"currency":null,"kind":"unknown"},"counts_sha256":"e58512e5fa9bb0f096cf5fd2bc6c59b0bf0b3f961755fe890898f886fb564a8f","counts_source":"measured","device_id":"mock_qpu_1","execution_id":"job-closed","message":null,"miner_hotkey":"5FhGKFZQo8VWY13e7gVpdRryjbQMNdMT5QTQRsWmwUGvMDHK","provider":"mock","provider_job_id":"vendor-job-closed","shots_requested":100,"shots_returned":100,"signature":"0xf8981162a1349130b33fc8b69153538159ef32d99df40a3f6cc74f3f95dbeb165a1f9a3a260e2901decc44b6a4d4b21e5255a0b279e368165862a51f4aa7a38b","timestamps":{"received":"2026-11-21T11:58:37.810112Z","settled":"2026-11-21T11:58:37.810112Z","submitted":"2026-11-21T11:58:37.810112Z","vendor":{}},"validator_hotkey":"5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY","verdict":"succeeded","version":"qcompute-receipt/1"}');
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
