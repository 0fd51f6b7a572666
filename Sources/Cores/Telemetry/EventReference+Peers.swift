/// Events of daemons and of peers.
extension EventReference {
    package static let overlay = [
        Entry(.overlayJoined, "the first contact answered; 0: a network of one began"),
        Entry(.bootstrapRetrying, "no bootstrap node answers; when it tries again"),
        Entry(.overlayIsolated, "nobody has answered for a while"),
        Entry(.externalAddress, "where others see this daemon, by vote"),
        Entry(.reachability, "how many of those who were asked could dial it on TCP and UDP"),
        Entry(.unreachable, of: "address", "an address found in the overlay could not be reached"),
        Entry(
            .connectionRefused, of: "address",
            "turned away before anything was said: other pool, other version, …; at most one event of a kind in ten seconds",
            ["count": "how often since the last event of the kind"]),
        Entry(
            .strangersTurnedAway,
            "inbound connections that never finished TLS, counted since the start; at most one event in ten seconds"),
        Entry(
            .networkChanged, "the machine has slept, or has other addresses: everybody wanted is dialled again at once",
            ["why": "which of the two"]),
        Entry(
            .connectionMade, of: "name, or short key",
            "a session began over a connection of its own; one through a relay says `connection_relayed`. Of live daemons only",
            ["endpoint": "of the other end"]),
        Entry(
            .connectionInterrupted, of: "name, or short key",
            "a connection ended; its session waits for another one, and nothing is lost"),
        Entry(.connectionResumed, of: "name, or short key", "the session goes on over another connection"),
        Entry(.connectionLost, of: "name, or short key", "a session ended: what was not confirmed is lost"),
        Entry(
            .connectionRelayed, of: "name, or short key",
            "the session goes through a relay, to which it is bytes; a better way is looked for behind it",
            ["by": "name, or short key, of the relay"]),
        Entry(
            .connectionPunched, of: "name, or short key",
            "the session goes over a connection that both ends dialled in one moment: no relay carries it any more",
            ["endpoint": "of the other end, as its router shows it; `… by datagrams` where it is a flow"]),
        Entry(
            .berthGranted, of: "name, or short key, of the relay",
            "this daemon cannot be dialled: others may reach it through that one, which carries so much",
            ["megabits": "a second, of all that it carries", "left_mib": "that it may still carry today"]),
        Entry(.berthLost, of: "name, or short key, of the relay", "nobody is reached through that one any more"),
        Entry(
            .portOpened,
            "the router in front of this machine forwards a port to it, as it was asked to, and others have come in there",
            ["endpoint": "where others dial this machine from now on"]),
        Entry(
            .portClosed, "others do not reach this machine at a port that its router said it forwards",
            ["endpoint": "of the router", "why": "in words"]),
        Entry(
            .memberJoined, of: "name, or short key",
            "of a pool that keeps members: somebody has joined. By an invite of few uses everybody hears of it, else whoever let it in. "
                + "Of a flood of this and the next four a part is told (64 at once, then one in five seconds)",
            ["invite": "the first digits of its ID", "role": "`member` or `watcher`"]),
        Entry(
            .memberRemoved, of: "name, or short key",
            "whoever keeps the pool has removed it: nobody lets it in any more, and who is connected hangs up"),
        Entry(
            .membershipRenewed, "this daemon's certificate was renewed by whoever keeps the pool",
            ["days": "that the new one is in force"]),
        Entry(
            .inviteRevoked, "nobody else joins by this invite",
            ["invite": "the first digits of its ID", "members_too": "who had joined by it is removed"]),
        Entry(
            .poolKeyChanged, "the pool has another key; both are right until the overlap is over",
            ["serial": "of the key, counted from 1"]),
        Entry(.packetMalformed, of: "name, or short key", "a message did not decode; it is counted and dropped"),
        Entry(
            .floodLimited, of: "short key or address",
            "more of this than its budget allows came; the rest is dropped and counted, and this is said once a while"),
    ]

    package static let record = [
        Entry(
            .entryRefused,
            "an entry of our own breaks a rule of the log and was not appended: never expected, please report it"),
        Entry(
            .logEntryRefused, of: "sender", "an entry that does not verify, does not follow, or breaks a rule"),
        Entry(
            .forked, of: "sender", "a valid entry that contradicts one held here; what is held stays",
            ["index": "of the entry, from 0"]),
        Entry(.leaderChanged, of: "who leads", "a newer term began"),
        Entry(
            .electorsChosen, "others carry the record from now on, as soon as those before and they agree",
            ["electors": "names, by commas; `launcher` is the machine that began the job"]),
        Entry(
            .leadershipTaken, "this elector was elected and goes on with the job", ["round": "in progress"]),
        Entry(
            .recordCarried, of: "who leads",
            "an elector that does not lead has the seal of a round, and so has a quorum",
            ["tokens": "sealed so far", "train_loss": "nats a token"]),
        Entry(
            .recordFound, of: "whoever has it",
            "before a job is founded anew: somebody has told what there is of its log",
            ["entries": "told", "certified": "the longest log so far that a quorum has signed for"]),
        Entry(
            .jobRefounded, "a majority of its electors was lost, and its root key has begun a new era",
            ["entries": "certified, all of which stay", "why": "as the log says"]),
        Entry(
            .refoundingRefused, of: "who passed it on",
            "the job was founded anew without entries that are certified here",
            ["entries": "that it would keep", "certified": "here"]),
        Entry(
            .launcherAwaited,
            "all tokens are trained; the leader waits for the launcher's machine to collect the weights, and does it itself after that"
        ),
        Entry(
            .electorsContradict, of: "whoever is convicted by it, else one of those who signed",
            "electors have signed two logs of one length: somebody lies. Both statements are on disk, and `atoll verify` shows them",
            ["entries": "that both are of", "why": "who has signed what"]),
        Entry(.staleCommand, of: "sender", "a command of an older term was not obeyed"),
        Entry(.notEntitled, of: "sender", "a message from somebody who may not say it; it is counted and dropped"),
        Entry(
            .storageFailed, "the disk refused; nothing is acknowledged that is not durable, and it is tried again",
            ["what": "was to be stored"]),
        Entry(.storageRecovered, "the disk takes it again", ["what": "was to be stored"]),
    ]

    package static let peer = [
        Entry(
            .speedMeasured, "what the engine sustained in the start-up benchmark", ["flops": "FLOP/s"]),
        Entry(
            .rehearsed, "what the engine sustained at blocks of the job's model, beside whatever else the machine did",
            ["flops": "FLOP/s"]),
        Entry(.jobAccepted, of: "launcher", "an offer of an accepted launcher was taken"),
        Entry(
            .offerDeclined, of: "launcher",
            "not an accepted launcher, another job under way, another numerics version, …"),
        Entry(.jobReleased, "the job is over for this peer; its chunks are erased"),
        Entry(.ownerPaused, "the owner paused it: it leaves its job, and declines offers"),
        Entry(.ownerResumed, "the owner's pause is over"),
        Entry(
            .ownerLeaves, "the owner has it leave its job where the next round begins; offers are declined from now on",
            ["round": "in progress"]),
        Entry(
            .workHeld, "a limit of its owner bites: nothing is computed from now on; its job is kept for a while",
            ["limit": "its key in peer.yaml"]),
        Entry(
            .workDraining, "a limit that was known ahead bites: it leaves its job where the next round begins",
            ["limit": "its key in peer.yaml, or `owner`"]),
        Entry(
            .workHandedOver, "it leaves its job, and takes no other while the limit bites",
            ["limit": "its key in peer.yaml, or `owner`"]),
        Entry(.workTakenUp, "no limit bites any more", ["seconds": "since the first one did"]),
        Entry(
            .limitUnseen, "a limit's sensor says nothing",
            ["limit": "its key in peer.yaml", "instead": "what is done without"]),
        Entry(.limitChanged, "the owner gave a limit another value", ["limit": "its key in peer.yaml"]),
        Entry(
            .usageUnread,
            "what was sent this month cannot be read; where there is a monthly limit, it counts as used up"),
        Entry(
            .processorTaken, of: "whose; nobody: this machine's",
            "other programs take more than two thirds of the processor time that a peer asks for",
            ["percent": "that it had, of what it asked for in the last minute"]),
        Entry(
            .processorBack, of: "whose; nobody: this machine's",
            "it has half of the processor time again that it asks for, or asks for none"),
    ]

    package static let member = [
        Entry(.textComplete, "the job's text is here, every chunk verified"),
        Entry(.contentRefused, of: "sender", "an index that does not hash to the content ID"),
        Entry(.chunkRefused, of: "sender", "a chunk that was not wanted or does not hash right"),
        Entry(.peerLeft, of: "who", "the log says that a member left"),
        Entry(.workPaused, "the leader's lease is over: work stops, and what is held stays for an hour"),
        Entry(.rejoined, "this peer was away, and is a member again with what it kept"),
        Entry(
            .planReceived, "a plan is in the log",
            ["role": "pipeline, stage and units, or `spare`, or `record` of who carries records only"]),
        Entry(.placementRefused, "the plan needs more memory than the owner offers; the peer leaves the job"),
        Entry(.stateRequested, of: "source", "weights of these units at that round's start were asked for"),
        Entry(.stateUnavailable, of: "source", "it cannot give them; another is asked"),
        Entry(.stateWrong, of: "holder", "it offered a state that is not the agreed one; another is asked"),
        Entry(
            .momentsInexact,
            "Adam moments of these units come from another pipeline or an older checkpoint: training goes on, not bit for bit"
        ),
        Entry(.stateReady, "the engine holds these units", ["units": "first..<end"]),
        Entry(.roundRewound, "the engine went back to the round's start; the pipeline begins it anew"),
        Entry(
            .roomShort, "something of the job does not fit on this peer's disk; the job goes on without",
            ["what": "is to be kept", "needed_bytes": "in all", "place": "the folder"]),
        Entry(
            .roundStartFound, "a peer just started has on its disk the stage of a job as of that round's start",
            ["job": "short ID", "units": "first..<end"]),
        Entry(
            .roundStartStored, "the stage as of that round's start is on this peer's disk, read back and right",
            ["units": "first..<end"]),
        Entry(
            .roundStartRead, "units came from this peer's own disk",
            ["units": "first..<end", "exact": "whether error feedback is this stage's own, too"]),
        Entry(.roundStartFailed, "that round's start could not be written; an older one stays, the job goes on"),
        Entry(
            .roundStartRefused,
            "a file of this peer is of another version or job, torn, damaged, or not what the log says; it is left alone, and an older one "
                + "or another's is used", ["what": "path, or which round's start"]),
        Entry(
            .copyFound, "a peer just started has on its disk a copy of units that others held as of that round's start",
            ["job": "short ID", "units": "first..<end"]),
        Entry(
            .copyStored,
            "weights and momentum of units that others hold are on this peer's disk, as of that round's start",
            ["units": "first..<end"]),
        Entry(
            .copyFailed,
            "a copy of units of others as of that round could not be written; an older one stays, the job goes on",
            ["units": "first..<end"]),
        Entry(
            .copySkipped, "units of others are not copied under this plan: this peer has no memory for it",
            [
                "units": "first..<end", "needed_bytes": "for a moment",
                "free_bytes": "beside its stage, of what it offers",
            ]),
        Entry(.sealIncompleteHere, "sealed contributions did not arrive; the new weights are fetched"),
        Entry(.contributionMalformed, of: "sender", "a message's chunks do not fit its bytes"),
        Entry(.contributionUnusable, "what that pipeline contributed cannot be used here"),
        Entry(.payloadCorrupt, of: "sender", "an activation's checksum does not match"),
        Entry(
            .roundCounted, "rounds were sealed, as a peer sees once a second; the newest is told",
            [
                "tokens": "of the job so far", "seconds": "of the last round, seal to seal",
                "counted": "of this peer's micro-batches in the job so far",
                "wasted": "of them: late, lost or superseded",
            ]),
        Entry(.workRefused, "the engine refused a job: input that does not fit"),
    ]

    package static let drivers = [
        Entry(.stateUnread, "every daemon: `overlay.state` is of another pool or damaged; it starts without"),
        Entry(
            .logDamaged,
            "every daemon: a job's log, or its receipts, is damaged on this disk; what is whole is used, and what was there is kept beside it",
            ["byte": "where the damage begins", "lost": "records that cannot be read, where that is known"]),
        Entry(
            .descriptorsScarce,
            "every daemon: nearly all files are open that it may have open: it takes and opens no connections until some are closed"
        ),
        Entry(.descriptorsBack, "every daemon: it takes connections again", ["seconds": "since they were scarce"]),
        Entry(
            .controlClosed,
            "every daemon: its control socket was removed, and cannot be put back (said once): `atoll status` does not reach it"
        ),
        Entry(.controlRestored, "every daemon: its control socket was removed, and is there again"),
        Entry(.stateUnsaved, "every daemon: `overlay.state` could not be written (said once); it goes on"),
        Entry(.listening, "launch: its sockets are open"),
        Entry(
            .status, "launch: once a second, for whoever watches",
            [
                "phase": "of the job", "step": "of the member that is furthest", "tokens": "sealed so far",
                "train_loss": "nats a token; 0 before the first seal",
                "validation_loss": "nats a token; 0 before the first evaluation",
                "sent_bytes":
                    "at their sockets since they joined, by all who are or were members; 0 where that is not known",
                "uncompressed_bytes": "fp32 gradients of every step so far",
                "doing": "name=what, separated by semicolons",
            ]),
        Entry(.evaluating, "launch: the final loss is computed over all validation windows"),
        Entry(
            .evaluationProgress, "every two seconds of that",
            ["windows": "whose loss is computed", "of": "in the validation part"]),
        Entry(.checkpointStored, "launch: a periodic checkpoint is on disk"),
        Entry(.checkpointFailed, "launch: a periodic checkpoint could not be written; training goes on"),
        Entry(.peerKilled, of: "who", "demo: it killed this peer on purpose"),
        Entry(.fault, "replay: the topology's time line struck this host"),
    ]
}
