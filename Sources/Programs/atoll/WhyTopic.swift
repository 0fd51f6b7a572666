import Daemon
import Node

/// What sentences of a screen are about, and the kinds of events that make them.
enum WhyTopic: String, CaseIterable {
    case paused, waiting, limits, job, place, rounds, connections, machine, plan, members, interruptions

    /// As ``EventJournal/about(_:most:)`` takes them.
    var events: String {
        switch self {
        case .paused:
            "work_held|work_draining|work_handed_over|work_taken_up|owner_paused|owner_leaves|owner_resumed|work_paused"
        case .waiting:
            "work_paused|waiting_for|processor_|connection_interrupted|connection_lost|connection_refused|state_requested|state_unavailable|"
                + "bootstrap_retrying|overlay_isolated|refounding_refused"
        case .interruptions:
            "interrupted|resumed|peer_lost|rolled_back|others_go_on|replaced|diverged|storage_failed|waiting_for"
        case .limits: "limit_|processor_|work_held|work_draining|work_handed_over|work_taken_up|usage_unread"
        case .job:
            "job_accepted|job_released|job_opened|job_resumed|job_refounded|offer_declined|plan_received|placement_refused|leader_changed|"
                + "electors_chosen|leadership_taken|owner_|work_"
        case .place: "plan_received|placement_refused|state_ready|state_requested|moments_inexact|rejoined|replaced"
        case .rounds:
            "round_sealed|round_counted|record_carried|job_released|round_rewound|rolled_back|state_ready|waiting_for|seal_incomplete|contribution_|weights_|speed_changed|peer_left|"
                + "plan_received|rejoined|diverged|training_resumed|interrupted|resumed"
        case .connections:
            "connection_|reachability|unreachable|berth_|overlay_|bootstrap_|external_address|port_|network_changed|pair_relayed"
        case .machine: "speed_measured|rehearsed|limit_changed|member_|membership_|pool_key|storage_|usage_unread"
        case .plan:
            "planned|replanned|plan_refused|plan_received|exchange_chosen|exchange_regrouped|placed|speed_changed|links_measured"
        case .members: "peer_|processor_|replaced|others_go_on|weights_differ"
        }
    }
    /// Words of a launcher's screen, whose sentences are folded from its events.
    private var words: [String] {
        switch self {
        case .plan: ["plan", "pipeline", "exchange", "stage", "predicted", "parameters"]
        case .rounds:
            ["round", "step", "loss", "validation", "tokens", "sealed", "left", "training", "given", "micro-batch"]
        case .members: ["lost", "joined", "peers", "spare", "sent", "members"]
        case .connections: ["connect", "direct", "relay", "reach", "nodes", "line", "path"]
        case .waiting: ["wait"]
        case .limits: ["limit"]
        case .paused: ["pause"]
        case .job: ["job", "next", "stop", "resume"]
        case .place, .machine, .interruptions: []
        }
    }
    static let list = allCases.map { "`\($0.rawValue)`" }.joined(separator: ", ")

    /// The sentences in which all of the words are, or else one of them, and the events that made them.
    static func behind(_ words: String, _ status: ControlService.Status) -> (sentences: [String], events: String)? {
        let wanted = words.lowercased().split { " .,;:“”\"?!".contains($0) }.map(String.init)
        guard !wanted.isEmpty else { return nil }
        // Of a daemon that is no peer: what `atoll status` says.
        let parts =
            status.daemon.member != nil
            ? PeerStory(status: status).told.map { ($0.text, $0.topic) }
            : StatusText.lines(status).map { ($0, WhyTopic.of(line: $0)) }
        let told = parts.flatMap { part in sentences(part.0).map { (text: $0, topic: part.1) } }
        let whole = told.filter { part in wanted.allSatisfy { part.text.lowercased().contains($0) } }
        func about(_ found: [(text: String, topic: WhyTopic)], _ topic: WhyTopic) -> [String] {
            found.filter { $0.topic == topic }.map(\.text)
        }
        if let topic = whole.first?.topic { return (about(whole, topic), topic.events) }
        let some = told.filter { part in wanted.contains { $0.count > 3 && part.text.lowercased().contains($0) } }
        // What was said while there was a job is meant also when there is none any more.
        let named = allCases.first { one in one.words.contains { word in wanted.contains { $0.hasPrefix(word) } } }
        guard let topic = named ?? some.first?.topic else { return nil }
        return (about(some, topic), topic.events)
    }
    /// Of a line of a launcher's or a node's status.
    private static func of(line: String) -> WhyTopic {
        if line.contains("connected") || line.contains("nodes of its pool") { return .connections }
        if line.hasPrefix("  ") { return .members }
        return line.contains("round") || line.contains("trained") ? .rounds : .job
    }
    /// A paragraph's: they end with a full stop before a space.
    private static func sentences(_ paragraph: String) -> [String] {
        var (out, current) = ([String](), "")
        for part in paragraph.split(separator: " ", omittingEmptySubsequences: true) {
            current += (current.isEmpty ? "" : " ") + part
            if part.hasSuffix(".") || part.hasSuffix("….") {
                out.append(current)
                current = ""
            }
        }
        return current.isEmpty ? out : out + [current]
    }
}
