public import Primitives

/// A job as numbers, for `/metrics`: docs/METRICS.md says the same. What nobody has told is left out.
extension JobView {
    /// - Parameter now: for what is left of the job.
    public func metrics(at now: Instant) -> [MetricFamily] {
        jobMetrics(at: now) + roundMetrics + peerMetrics + [eventMetrics]
    }

    /// All events, by kind.
    private var eventMetrics: MetricFamily {
        var byKind: [String: Int] = [:]
        for (name, count) in counts { byKind[name.kind, default: 0] += count }
        return .counter(
            "atoll_events", "Events of this process, by kind (docs/EVENTS.md).",
            byKind.sorted { $0.key < $1.key }.map { ([.init("kind", $0.key)], Double($0.value)) })
    }

    private func jobMetrics(at now: Instant) -> [MetricFamily] {
        // A member is told less of its job than who leads it.
        guard plan != nil || rounds.count > 0 || !roster.members.isEmpty else { return [] }
        return [
            .gauge("atoll_job_info", "The job, by its ID.", [([.init("job", job)], 1)]),
            .gauge(
                "atoll_job_stage", "1 for what the job is at, 0 for the rest.",
                Stage.words.map { ([.init("stage", $0)], $0 == stage.word ? 1 : 0) }),
            .gauge("atoll_job_step", "Steps of the optimizer that are done.", Double(progress.step)),
            .gauge("atoll_job_steps_planned", "Steps of the whole job.", stepsTotal.map(Double.init)),
            .gauge("atoll_job_round", "The round in progress.", Double(progress.round)),
            .gauge(
                "atoll_job_tokens", "Tokens in sealed rounds; fewer after a return to an earlier round.",
                Double(progress.tokens)),
            .gauge(
                "atoll_job_tokens_planned", "Tokens of the whole job.",
                progress.tokensTotal > 0 ? Double(progress.tokensTotal) : nil),
            .gauge(
                "atoll_job_tokens_per_second", "Tokens a second since training began.",
                rounds.count > 0 ? tokensPerSecond : nil),
            .gauge("atoll_job_remaining_seconds", "Until the last seal, as things go.", secondsLeft(at: now)),
            .gauge(
                "atoll_loss_nats", "Mean loss a token: of the last sealed round, and of the newest evaluation.",
                [("train", progress.trainLoss), ("validation", progress.validationLoss)].compactMap { split, loss in
                    loss.map { ([.init("split", split)], $0) }
                }),
            .gauge(
                "atoll_job_sent_bytes",
                "Sent since they joined by all who are or were members, at their sockets, as they last said.",
                progress.sentBytes > 0 ? Double(progress.sentBytes) : nil),
            .gauge(
                "atoll_job_uncompressed_bytes", "What fp32 gradients of every step would have been.",
                progress.uncompressedBytes > 0 ? Double(progress.uncompressedBytes) : nil),
            .gauge("atoll_job_waiting", "Whether the job waits for somebody.", waiting == nil ? 0 : 1),
            .counter("atoll_checkpoints", "Checkpoints made.", Double(checkpoints.count)),
        ]
    }

    private var roundMetrics: [MetricFamily] {
        [
            .histogram("atoll_round_seconds", "From seal to seal.", roundSeconds),
            .gauge(
                "atoll_round_predicted_seconds", "The last sealed round, by the plan in force.",
                rounds.last?.predictedSeconds),
            .gauge(
                "atoll_step_seconds", "The median step of late, seal to seal.", rounds.count > 0 ? stepSeconds : nil),
            .gauge("atoll_critical_batch_tokens", "Noise scale of the gradients.", rounds.last?.criticalBatch),
        ]
    }

    private var peerMetrics: [MetricFamily] {
        guard !roster.members.isEmpty else { return [] }
        var standings = [("found", 0), ("unfit", 0), ("declined", 0), ("joined", 0), ("lost", 0)]
        for member in members {
            let place = standings.firstIndex { $0.0 == member.standing.word }
            standings[place ?? 0].1 += 1
        }
        return [
            .gauge(
                "atoll_job_peers", "Peers, by how they stand towards the job.",
                standings.map { ([.init("standing", $0.0)], Double($0.1)) }),
            .gauge(
                "atoll_job_peers_working", "Peers that hold layers by the plan in force.",
                Double(members.count(where: \.isWorking))),
            .gauge("atoll_plan_pipelines", "Pipelines of the plan in force.", plan.map { Double($0.pipelines) }),
            .gauge("atoll_plan_epoch", "Counts plans from 1.", plan.map { Double($0.epoch) }),
            .counter("atoll_job_peers_lost", "Losses of peers.", Double(losses.count)),
            .gauge(
                "atoll_recovery_seconds", "From the newest loss that is overcome to the first step beyond it.",
                losses.items.last { $0.resumedAfter != nil }?.resumedAfter),
        ]
    }
}

extension JobView.Stage {
    static let words = [
        "idle", "gathering", "sharing", "measuring", "planning", "preparing", "training", "collecting", "evaluating",
        "over",
    ]
    var word: String {
        switch self {
        case .idle: "idle"
        case .gathering: "gathering"
        case .sharing: "sharing"
        case .measuring: "measuring"
        case .planning: "planning"
        case .preparing: "preparing"
        case .training: "training"
        case .collecting: "collecting"
        case .evaluating: "evaluating"
        case .over: "over"
        }
    }
}
extension JobView.Standing {
    var word: String {
        switch self {
        case .found: "found"
        case .unfit: "unfit"
        case .declined: "declined"
        case .joined: "joined"
        case .lost: "lost"
        }
    }
}
