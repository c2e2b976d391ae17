"""chamelaion-watch: drop a video and an audio track into a folder; the lip-synced video appears beside them.

    watch hints ─┐                                      ┌─▶ effects: a thread for each action, blocking I/O only
    timers ──────┤                                      │     └─▶ rootwork · delivering ─▶ edges
    signals ─────┼─▶ inbox ─▶ daemon: tick ── actions ──┤
    commands ────┤             │ ▲                       └─▶ status: snapshot ─▶ ledger ─▶ `cli`; live; notify
    effects' ────┘             │ │  core: reactions (what happened) ─▶ intake ─▶ planner (what to start)
    events                     ▼ │
                             ledger: one transaction per tick; what we are about to do is written before it is done

Imports point one way: `cli` ─▶ `service` ─▶ `daemon`, `effects` ─▶ `rootwork`, `delivering` ─▶ edges ─▶ core.
Core is pure: no clock, disk, socket, log, chance. An edge is one outside thing in a few files that import core and each
other, never another edge. Settings know neither edges nor daemon. The sandbox imports nothing of the rest.

What must stay true
    Write-ahead      what costs money is committed before it is done: the claim before the first byte, finishing_at
                     before the last piece. Observations are stored, not plans: recovery is ordinary planning.
    One sender       a run (content, options, run number: its reference_id) is claimed by compare-and-set; one daemon
                     per ledger (flock), one ledger per root (sentinel).
    Doubt            the last piece never left: certainly not taken. It left without an answer: look up; a 404 counts
                     only lookup_grace later. Accepted, then unknown: doubtful, and only a person sends it again.
    Never overwrite  an output appears whole, under a free name. Sources are opened to read, and left as they are.
    Root not well    frozen: nothing counts as deleted, nothing starts, no folder is made. An empty listing is no proof.
    One thread       the control thread owns the world. Others do I/O and post one event back; other processes append
                     commands. States change in `core.lifecycle` only; everything is caught in `effects` only.

Modules
    core/         decisions
      nouns: model errors messages policy book shelf packing world text
      files: ignore completeness unread agenda rota looking reading file known folder backlog pairindex asleep sleeping
      pairs: pairing languages nearmiss preflight
      jobs: lifecycle intake submission polling pace rendering delivery spooling twins
      the account: gate
      what to do: reactions planner turns resting commands once
      words and names: naming target notebook notes advice remote_errors
    edges/        one outside thing each
      the drop folder, reading: disk jail listing structure
      the drop folder, writing: outputs placing writing spool
      the drop folder, is it there: mounts mountinfo sentinel watcher
      the service: api answers multipart download transport stream addresses
      media, in child processes: probe probe_child launcher launcher_child
      time and chance, and our own process: clock process
    edges/ledger/ what must never be forgotten
      SQLite behind a protocol: protocol sqlite rows schema lock
    ./            the shell: thin, almost no branches
      at work: service daemon effects workers links rootwork delivering restore
      telling: status live log notify
      the configuration: settings settings_model settings_values settings_checks settings_key settings_text
      its syntax: yaml12 units templates
      the start: __main__ version
    cli/          one module per group of commands, imported when one of them runs
      commands: running configuring doctoring looking explaining reporting repairing trying
      shared: output dryrun
    sandbox/      the stand-in service; its own map is in its `__init__`
      all: __main__ server api outputs exchange answers core limits faults upload studio media journal

Find it in a minute
    why a file is (not) taken      `core.completeness`, `core.ignore`, `core.pairing`; said by `cli.explaining`
    when the next request goes     `core.gate` (429, 412, 401, outages), `core.turns` (whose turn)
    what an answer means           `edges.answers` ─▶ `core.submission`, `core.rendering`, `core.delivery`
    a word in a note, a code       `core.advice`, `core.notes`; when it comes and goes `core.notebook`
    after a crash                  `restore.restore`, `core.submission.recovered`
    a new option                   `settings_model`, `service.policy_of`; then the command in tests/test_docs.py
    a new state, a new column      `core.lifecycle`; `edges.ledger.schema`, `edges.ledger.rows`
    a new action                   `core.messages`, `core.planner`, `effects`, `core.reactions`
    a new command, exit codes      `cli.GROUPS`, `cli.output`; of `run --once`: `core.once`
    replay a simulated life        python -m tests.sim SEED
"""
