// pm2 start ecosystem.config.js      docs/how-to/run-under-pm2.md says what each setting is for
//
// pm2 never shortens its logs by itself: `pm2 install pm2-logrotate`, then for example
// `pm2 set pm2-logrotate:max_size 50M` and `pm2 set pm2-logrotate:retain 14`.

const common = {
  cwd: __dirname,
  script: "neurons/miner.py",
  interpreter: `${__dirname}/.venv/bin/python`,
  // One daemon for each hotkey and ledger; a second instance would be refused by the ledger's lock.
  exec_mode: "fork",
  instances: 1,
  autorestart: true,
  // Exit code 2: a setting is wrong. Starting again cannot help; the log names the setting and the fix.
  stop_exit_codes: [2],
  // The pause before a restart grows from this (ms) to 15 s, and falls back once the daemon has stayed up.
  exp_backoff_restart_delay: 500,
  // A daemon that ends within min_uptime counts towards max_restarts, after which pm2 gives up. With the pauses above
  // that is hours: a full disk or an unreachable machine should be waited out, and wrong settings end by their code.
  min_uptime: "10s",
  max_restarts: 1000,
  // pm2 sends SIGINT, which the daemon takes as it takes SIGTERM, and SIGKILL after this (ms). The daemon gives its
  // stages miner.shutdown_seconds (20 s) and then reports Offline: keep this at least 10 s above that setting.
  kill_timeout: 35000,
  // The daemon ends its children itself; a signal to them too would break what it still has them do.
  treekill: false,
  merge_logs: true,
  env: {
    PYTHONUNBUFFERED: "1",
    // JOB_SERVER_URL, TENSORAUTH_URL and PROVIDER may stand here as well as in .env
  },
};

module.exports = {
  apps: [
    {
      ...common,
      name: "qcompute-miner",
      args: [
        "--wallet.name", "miner",
        "--wallet.hotkey", "default",
        "--netuid", "48",
        "--subtensor.network", "finney",
        "--axon.port", "8091",
        // "--axon.external_ip", "203.0.113.7",
        "--logging.info",
      ],
      out_file: "logs/miner.out.log",
      error_file: "logs/miner.err.log",
    },
    // A second miner on the same machine: a hotkey, two ports, a name and, with aer, a spool of its own.
    // {
    //   ...common,
    //   name: "qcompute-miner-2",
    //   args: [
    //     "--wallet.name", "miner",
    //     "--wallet.hotkey", "second",
    //     "--netuid", "48",
    //     "--subtensor.network", "finney",
    //     "--axon.port", "8191",
    //     "--operator.port", "8192",
    //     "--neuron.name", "second",
    //     "--providers.aer.spool", "~/.qcompute/second/aer",
    //     "--logging.info",
    //   ],
    //   out_file: "logs/miner-2.out.log",
    //   error_file: "logs/miner-2.err.log",
    // },
  ],
};
