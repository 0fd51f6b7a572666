/// Events of who leads a job.
extension EventReference {
    package static let gathering = [
        Entry(.jobOpened, "the job's log begins", ["nonce": "tells two runs of one job apart"]),
        Entry(
            .jobResumed, "an earlier process of this launcher began the job, and this one goes on with it",
            ["round": "in progress", "checkpoint": "the round of the newest that could be read back"]),
        Entry(.waitingForPeers, "every 5 s while peers are missing"),
        Entry(.peerFound, of: "who", "it said what it can do; an offer went out"),
        Entry(.peerUnfit, of: "who", "its numerics version is another"),
        Entry(.peerDeclined, of: "who", "it declined the offer"),
        Entry(.peerJoined, of: "who", "it accepted"),
        Entry(.sharingText, "members are told of each other, and the text spreads"),
        Entry(
            .measuringLinks, "pings and bursts between members begin",
            ["why": "where it is not the first time"]),
        Entry(
            .linksMeasured, "the planner is asked next",
            ["up_mbps": "least and greatest of the members' lines", "down_mbps": "likewise"]),
        Entry(.planning, "the planner was asked"),
        Entry(
            .planned, "the first plan is in the log",
            [
                "stages": "of the longest pipeline", "exchange": "the way",
                "step_seconds": "predicted seal-to-seal seconds ÷ H", "total_seconds": "predicted, the whole job",
            ]),
        Entry(
            .exchangeChosen,
            "how these units will be exchanged, and what it should take, by the first plan and each new one"),
        Entry(.placed, "who holds layers", ["workers": "names in rank and stage order"]),
        Entry(
            .pairRelayed, of: "one end",
            "two peers that the plan has exchange bytes have no path of their own, and a relay carries them",
            [
                "to": "the other end", "by": "the relay", "megabits": "a second, what the pair can do over it",
                "forward": "whose router should let others in, where that would help", "port": "that it should forward",
                "saved_step_seconds": "predicted: what a step would take less then",
            ]),
        Entry(.planRefused, "the planner found nothing better; what runs goes on"),
    ]

    package static let rounds = [
        Entry(
            .roundSealed, "a round is in the log",
            [
                "steps": "done so far", "tokens": "sealed so far",
                "train_loss": "mean nats a token over the counted micro-batches",
                "validation_loss":
                    "nats a token of the parameters the round *began* with, over the fixed windows; absent where it was not evaluated",
                "pipelines": "contributing", "seconds": "since the seal before",
                "critical_batch": "tokens: the noise scale by the exchange's norms so far; absent while unknown",
                "predicted_seconds": "of the plan in force",
            ]),
        Entry(
            .waitingFor, "an exchange is late, or the round overdue",
            ["why": "whose part of which units, how late, how fast its link is"]),
        Entry(
            .speedChanged, of: "who",
            "the median of its last five rounds is a quarter or more off what it was planned at; a new plan is asked for"
        ),
        Entry(.exchangeRegrouped, "the round's exchange goes on among these pipelines, this way"),
        Entry(
            .contributionRefused, of: "whose", "a member cannot use it; not yet left out", ["by": "the member"]),
        Entry(.aggregatesDiffer, of: "owner", "members hold different sums of a chunk; all-gather instead"),
        Entry(.ownerRefuted, of: "owner", "two auditors found another sum; it owns nothing any more"),
        Entry(
            .auditDiffers, of: "owner", "an audit that proves nothing, and did not confirm; all-gather instead"),
        Entry(.auditUnanswered, "an auditor was silent; the round is sealed without"),
        Entry(.receiptRefused, of: "sender", "signature, sequence or numbers of a receipt are wrong"),
        Entry(
            .receiptContradicts, of: "signer",
            "two receipts of one stage and round do not agree; the first one counts"),
        Entry(.statesAgreed, "the digests that holders agree on at that round's start are in the log"),
        Entry(
            .weightsDiffer, of: "who",
            "its weights differ from what the others of the unit agree on; it is sent away and may join again"),
        Entry(
            .weightsDisputed, "holders of a unit differ and none has a majority; nobody is blamed",
            ["peers": "the holders"]),
    ]

    package static let states = [
        Entry(.checkpointSaved, "all units as of that round's start are at the coordinator"),
        Entry(.collectingWeights, "training is over; the final weights are fetched"),
        Entry(.collectionProgress, "units that have come and fit what was agreed", ["of": "the model's units"]),
        Entry(
            .stateRefused, of: "who", "weights that hash otherwise than agreed; another holder is asked"),
        Entry(.stateMalformed, of: "who", "it sent something that does not fit the model (to a member, too)"),
    ]

    package static let recovery = [
        Entry(
            .peerLost, of: "who", "a member's connection ended, it said goodbye, or it was silent too long",
            ["said_goodbye": "it took its leave; else it was cut off or fell silent"]),
        Entry(
            .replaced, of: "who left", "a spare takes the place; its pipeline begins the round anew",
            ["by": "the spare"]),
        Entry(
            .othersGoOn, "no spare fits; whole pipelines finish the round, a new plan is asked for",
            ["pipelines": "that go on"]),
        Entry(
            .pipelineRestarted, "a pipeline begins the round anew, with the same peers: messages between them are lost",
            ["rank": "of the pipeline"]),
        Entry(
            .replanned, "a new plan, from that round on",
            ["step_seconds": "one inner step of the slowest pipeline, without validation and exchange"]),
        Entry(
            .diverged, of: "who computed it",
            "a loss or a gradient is not finite: the job ends, or goes back once at half the learning rate",
            ["step": "of the job, from 0", "rank": "of the pipeline"]),
        Entry(
            .workImpossible, of: "whose",
            "an engine refuses what it is to compute: tried again twice, then the job ends",
            ["step": "of the job, from 0", "rank": "of the pipeline"]),
        Entry(
            .supplyChosen, "from which round's start the job goes on after everything, or too much, was off",
            [
                "of": "the round that was in progress",
                "exact": "every stage has its own of it: the weights will be those of an uninterrupted run",
            ]),
        Entry(
            .rolledBack, "everybody returns to the start of that round",
            [
                "from":
                    "absent in the final collection: holders do not agree on what they have, or nothing of it comes, and the job ends with the last checkpoint"
            ]
        ),
        Entry(.trainingResumed, "after a loss, the first step beyond where the job was; so long after it"),
        Entry(.interrupted, "the job stands still: nothing can be sealed until this is over"),
        Entry(.resumed, "it goes on after that time"),
    ]
}
