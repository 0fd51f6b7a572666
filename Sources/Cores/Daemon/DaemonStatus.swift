import Channels
import Consensus
import Coordination
import Kademlia
import Membership
import Messages
import Paths
import Pools
public import Primitives
import Record

/// What a daemon is and does, for its owner: a picture of one moment. Its JSON is described in docs/STATUS.md.
public struct DaemonStatus: Codable, Hashable, Sendable {
    /// Its key, 64 hexadecimal digits.
    public var id: String
    public var overlay: Overlay
    public var connections: [Connection]
    /// Why nobody lets it into its pool, and what to do; nil where somebody does, or nobody has been met.
    public var turnedAway: TurnedAway?
    /// Of a peer.
    public var member: Membership?
    /// Of whoever leads a job.
    public var coordinator: Leadership?
    /// Of whoever carries a job's record.
    public var elector: Election?

    /// What it is there for.
    public enum Role: Sendable { case peer, launcher, node }
    public var role: Role {
        if member != nil { return .peer }
        // Also while another elector leads.
        return coordinator != nil || elector != nil ? .launcher : .node
    }

    public struct Overlay: Codable, Hashable, Sendable {
        public var isJoined: Bool
        public var contacts: Int
        /// Whether others could dial it, as far as is known.
        public var isReachable: Bool
        /// Where others see it.
        public var external: String?
        /// Through whom others reach it, where it cannot be dialled: the first digits of their keys.
        public var berths: [String]
        /// What it carries for others; nil where it carries nothing.
        public var relay: Relay?
        /// What its router makes of one port inside, for datagrams and for connections: `same` for all, or `varies`; nil while fewer than two have said.
        public var datagramPorts: String?
        public var connectionPorts: String?
        /// Whether its router lets its port in; nil where that is not asked.
        public var forwarding: Forwarding?
    }
    public struct TurnedAway: Codable, Hashable, Sendable {
        /// The page that says more: `atoll help CODE`; nil where none does.
        public var code: String?
        public var why: String
    }
    public struct Forwarding: Codable, Hashable, Sendable {
        public enum State: String, Codable, Sendable {
            case asking
            /// The router does not answer.
            case silent
            case refused
            /// The router says that it does, and nobody has tried yet.
            case untried
            /// Others have come in there.
            case open
            /// Others have tried, and have not come in.
            case vain
            /// There is another router in front of this one.
            case behind
        }
        public var state: State
        /// Where others come in, or would.
        public var endpoint: String?
        /// `PCP` or `NAT-PMP`.
        public var spoken: String?
        /// Until the router lets go of it, if it is not asked again.
        public var secondsLeft: Double?
        /// Of a refusal, in a clause.
        public var why: String?
        init(
            _ state: State, endpoint: String? = nil, spoken: String? = nil, secondsLeft: Double? = nil,
            why: String? = nil
        ) {
            self.state = state
            self.endpoint = endpoint
            self.spoken = spoken
            self.secondsLeft = secondsLeft
            self.why = why
        }
    }
    public struct Relay: Codable, Hashable, Sendable {
        /// Of all together, and what its owner allows in a day.
        public var megabits: Double
        public var dailyMebibytes: Double
        /// Peers that may be reached through it, circuits open now, and bytes carried since it runs.
        public var berths: Int
        public var circuits: Int
        public var carriedBytes: Int
    }
    public struct Connection: Codable, Hashable, Sendable {
        /// The first digits of the peer's key.
        public var peer: String
        /// As it calls itself in the job that is done here; nil of others.
        public var name: String?
        public var endpoint: String
        public var roundTripMilliseconds: Double?
        /// The first digits of the key of whoever carries it; nil of a direct connection.
        public var relayedBy: String?
        /// True of one that goes in datagrams; nil of others.
        public var byDatagrams: Bool?
        /// `direct`, `punched` (both ends have met by an introduction) or `relayed`; nil where an older program says nothing of it.
        public var path: String?
        /// Of a peer that is wanted for a job: how long after that there was a session, and after how long it went over the path that it goes over now.
        public var usableAfterSeconds: Double?
        public var pathAfterSeconds: Double?
    }
    public struct Membership: Codable, Hashable, Sendable {
        public enum State: String, Codable, Sendable {
            case free, working
            /// In a job whose leader is not heard: it keeps what it holds.
            case waiting
            case paused
            /// In a job that it leaves where the next round begins.
            case leaving
        }
        public var name: String
        public var memoryMebibytes: Double
        public var state: State
        public var job: String?
        public var jobName: String?
        public var leader: String?
        /// Whose machine began the job, or its era.
        public var launcher: String?
        public var isLeaderConnected: Bool?
        public var term: Int?
        public var round: Int?
        public var step: Int?
        /// In words.
        public var doing: String
        /// First unit held, and the one after the last.
        public var units: [Int]?
        /// The first digits of the keys of launchers that it works for.
        public var accepts: [String]
        /// Of a member of a job that has a plan.
        public var work: Work?
        /// False of a node: it carries records, and computes nothing. Builds before this one do not say.
        public var computes: Bool?
        /// Of one that waits for its leader: so long that one has not been heard.
        public var unheardSeconds: Double?
        /// It has said that it stops for now.
        public var isLeaderStopped: Bool?
        /// Of a member in whose part of the job nothing moves.
        public var standstill: Standstill?
        /// The job was founded anew without entries that are certified here, and its owner has not said that it may follow.
        public var refusedRefounding: RefusedRefounding?
    }
    public struct Standstill: Codable, Hashable, Sendable {
        /// So long nothing has moved here.
        public var seconds: Double
        /// Who is waited for, by name, as far as is known: `bo`, `bo, who has left`, `bo, to whom there is no connection`; `self` for its own machine.
        public var waitsFor: [String]
        /// For what, in a clause.
        public var what: String
    }
    public struct RefusedRefounding: Codable, Hashable, Sendable {
        public var job: String
        /// Of the log, that the new era keeps; and that are certified here.
        public var entries: Int
        public var certified: Int
    }
    public struct Work: Codable, Hashable, Sendable {
        /// Of the pipeline and of the stage, from 0, and how many stages the pipeline has; nil of a spare.
        public var rank: Int?
        public var stage: Int?
        public var stages: Int?
        /// Who holds the stages next to it.
        public var before: String?
        public var after: String?
        public var parameters: Int
        public var tokens: Int
        public var tokensTotal: Int
        /// Of the optimizer, sealed and in all; builds before this one do not say.
        public var stepsDone: Int?
        public var stepsTotal: Int?
        public var trainLoss: Double?
        public var validationLoss: Double?
        /// Seal to seal: the last round, and the median of those before it.
        public var roundSeconds: Double?
        public var usualRoundSeconds: Double?
        public var microBatches: MicroBatches
    }
    /// A member's own, by how they ended.
    public struct MicroBatches: Codable, Hashable, Sendable {
        public var counted: Int
        public var late: Int
        public var lost: Int
        public var superseded: Int
        public var underWay: Int
        /// Rounds with those that counted.
        public var rounds: Int
    }
    public struct Leadership: Codable, Hashable, Sendable {
        public var job: String
        public var jobName: String
        public var term: Int
        public var stage: String
        public var round: Int
        public var tokens: Int
        public var tokensTotal: Int
        public var trainLoss: Double?
        public var logLength: Int
        public var logCommitted: Int
        /// All is trained, and the launcher is waited for to collect the result; for so long at most.
        public var awaitsLauncherSeconds: Double?
        public var peers: [Peer]
    }
    public struct Election: Codable, Hashable, Sendable {
        public var job: String
        /// Who leads, as far as it knows.
        public var leader: String?
        public var isLeader: Bool
        public var term: Int
        /// All who carry the record, this one among them.
        public var electors: [Elector]
        public var logLength: Int
        public var logCommitted: Int
        /// So many entries have a quorum's signatures, as far as is known here.
        public var logCertified: Int
        /// How the job ended, if it has.
        public var ended: String?
    }
    public struct Elector: Codable, Hashable, Sendable {
        public var peer: String
        public var isSelf: Bool
        public var isConnected: Bool
    }
    public struct Peer: Codable, Hashable, Sendable {
        public var name: String
        public var peer: String
        /// `met`, `declined`, `accepted`, `joined` or `lost`.
        public var standing: String
        /// Why, of those who declined or are lost.
        public var why: String?
        public var doing: String?
        public var silentSeconds: Double
        /// By the plan in force; nil of a spare, or before there is a plan.
        public var place: Place?
        /// Of the connection to it, where there is one.
        public var roundTripMilliseconds: Double?
        /// The first digits of the key of whoever carries it; nil of a direct connection, or none.
        public var relayedBy: String?
        public var isConnected: Bool
        /// At its sockets since it joined the job, as it last said; nil where it has not.
        public var sentBytes: Int?
        /// Of the processor time that it asks for, what other programs leave it; nil where that is enough, or not known.
        public var processorPercent: Double?
    }
    /// What a peer holds.
    public struct Place: Codable, Hashable, Sendable {
        /// Of the pipeline and of the stage, from 0, and how many stages the pipeline has.
        public var rank: Int
        public var stage: Int
        public var stages: Int
        /// First unit held, and the one after the last.
        public var units: [Int]
    }
}

extension DaemonStatus {
    /// How a connected peer calls itself, where that is known.
    /// - Parameter peer: the first digits of its key.
    public func name(of peer: String) -> String? {
        connections.first { $0.peer == peer }?.name.flatMap { $0 == peer ? nil : $0 }
    }
    /// For people.
    public func inWords(_ peer: String) -> String { name(of: peer).map { "\($0) (\(peer))" } ?? peer }
}

extension DaemonStatus.Leadership {
    /// Of the plan in force, how long its pipelines are: `3 stages`, `2 and 3 stages`; nil where nobody has a place.
    public var stagesClause: String? {
        var lengths: [Int: Int] = [:]
        for place in peers.compactMap(\.place) { lengths[place.rank] = place.stages }
        let all = Set(lengths.values).sorted()
        guard let last = all.last else { return nil }
        guard all.count > 1 else { return counted(last, "stage") }
        return all.dropLast().map(String.init).joined(separator: ", ") + " and \(last) stages"
    }
}

extension DaemonCore {
    public func status(at now: Instant) -> DaemonStatus {
        let connections = channels.connectedPeers.map { peer in
            let way = channels.way(to: peer)
            return DaemonStatus.Connection(
                peer: peer.short, name: services.name(of: peer),
                endpoint: channels.endpoint(of: peer)?.description ?? "",
                roundTripMilliseconds: channels.roundTrip(to: peer).map { $0.inSeconds * 1000 },
                relayedBy: channels.relay(of: peer)?.short,
                byDatagrams: way?.isFlow == true ? true : nil,
                path: pathWord(to: peer), usableAfterSeconds: wanted[peer]?.usableAfter?.inSeconds,
                pathAfterSeconds: wanted[peer]?.pathAfter?.inSeconds)
        }
        return DaemonStatus(
            id: identity.hex,
            overlay: DaemonStatus.Overlay(
                isJoined: directory.overlay.isJoined, contacts: directory.overlay.contactCount,
                isReachable: isReachable, external: external?.description,
                berths: carriage.search.berths.map(\.short), relay: relayStatus,
                datagramPorts: datagramPorts, connectionPorts: connectionPorts, forwarding: forwardingStatus(at: now)),
            connections: connections, turnedAway: turnedAwayStatus, member: services.member.map { status($0, at: now) },
            coordinator: services.coordinator.map { status($0, at: now) }, elector: services.elector.map(status))
    }
    private var turnedAwayStatus: DaemonStatus.TurnedAway? {
        channels.turnedAway.map { why in
            let code: String? =
                switch why {
                case .removed: "POOL-004"
                case .expired: "POOL-005"
                case .clock: "ID-003"
                case .inviteRevoked, .inviteUsedUp, .inviteExpired: "INV-006"
                case .noCredential, .otherPool, .forged, .notItsOwn: nil
                }
            return DaemonStatus.TurnedAway(code: code, why: why.toItself)
        }
    }
    private var relayStatus: DaemonStatus.Relay? {
        let relay = carriage.relay
        guard relay.isOpen, relay.limits.isWilling else { return nil }
        return DaemonStatus.Relay(
            megabits: relay.limits.rate.bitsPerSecond / 1e6,
            dailyMebibytes: Double(relay.limits.daily.bytes) / 1_048_576, berths: relay.carried.count,
            circuits: relay.circuitCount, carriedBytes: relay.counts.bytes)
    }
    private func status(_ elector: ElectorDesk) -> DaemonStatus.Election {
        let electors = elector.electorate.allVoters.sorted().map { peer in
            DaemonStatus.Elector(
                peer: peer.short, isSelf: peer == identity,
                isConnected: peer == identity || channels.isConnected(to: peer))
        }
        return DaemonStatus.Election(
            job: elector.job.hex, leader: elector.leader?.short, isLeader: elector.leader == identity,
            term: elector.term, electors: electors, logLength: elector.record.length,
            logCommitted: elector.agreed, logCertified: elector.certified,
            ended: elector.isOver ? elector.record.state.finished?.reason : nil)
    }

    private static func work(_ work: MemberWork) -> DaemonStatus.Work {
        func finite(_ value: Double?) -> Double? { value.flatMap { $0.isFinite ? $0 : nil } }
        return DaemonStatus.Work(
            rank: work.place?.rank, stage: work.place?.stage, stages: work.place?.stages, before: work.before,
            after: work.after, parameters: work.parameters, tokens: work.tokens, tokensTotal: work.tokensTotal,
            stepsDone: work.stepsDone, stepsTotal: work.stepsTotal,
            trainLoss: finite(work.trainLoss), validationLoss: finite(work.validationLoss),
            roundSeconds: work.roundSeconds, usualRoundSeconds: work.usualRoundSeconds,
            microBatches: .init(
                counted: work.counted, late: work.late, lost: work.lost, superseded: work.superseded,
                underWay: work.underWay, rounds: work.rounds))
    }
    private static func state(_ member: Member) -> DaemonStatus.Membership.State {
        if member.isPausedByOwner { return .paused }
        if member.isLeavingByOwner { return .leaving }
        guard member.position != nil else { return .free }
        return member.isWorking ? .working : .waiting
    }
    private func standstill(_ member: Member, at now: Instant) -> DaemonStatus.Standstill? {
        guard let still = member.standstill(at: now) else { return nil }
        let names = still.peers.map { peer -> String in
            if peer == identity { return "self" }
            let isLeader = peer == member.leader && member.name(of: peer) == nil
            let name = isLeader ? "\(peer.short), who coordinates the job" : member.name(of: peer) ?? peer.short
            if still.gone.contains(peer) { return "\(name), who has left" }
            return channels.isConnected(to: peer)
                ? name : "\(name)\(isLeader ? " and" : ",") to whom there is no connection"
        }
        return DaemonStatus.Standstill(seconds: (now - still.since).inSeconds, waitsFor: names, what: still.what)
    }
    private func status(_ member: Member, at now: Instant) -> DaemonStatus.Membership {
        let position = member.position
        return DaemonStatus.Membership(
            name: member.terms.name, memoryMebibytes: Double(member.terms.memory.bytes) / 1_048_576,
            state: Self.state(member),
            job: member.jobID?.hex, jobName: member.jobName, leader: member.leader?.short,
            launcher: member.launcher?.short,
            isLeaderConnected: member.leader.map { $0 == identity || channels.isConnected(to: $0) },
            term: position?.term,
            round: position?.round, step: position?.step, doing: member.activity.text,
            units: position?.units.map { [$0.lowerBound, $0.upperBound] },
            accepts: member.terms.accepts.prefix(64).map(\.short), work: member.work.map(Self.work),
            computes: member.terms.computes,
            unheardSeconds: member.silence.map { max(0, (now - $0.since).inSeconds) },
            isLeaderStopped: member.silence.map(\.isStopped), standstill: standstill(member, at: now),
            refusedRefounding: member.refusedRefounding.map {
                DaemonStatus.RefusedRefounding(job: $0.job.hex, entries: $0.entries, certified: $0.certified)
            })
    }

    private static func places(_ plan: PlacedPlan) -> [PeerID: DaemonStatus.Place] {
        var places: [PeerID: DaemonStatus.Place] = [:]
        for (rank, pipeline) in plan.pipelines.enumerated() {
            for (index, stage) in pipeline.stages.enumerated() {
                places[stage.peer] = DaemonStatus.Place(
                    rank: rank, stage: index, stages: pipeline.stages.count,
                    units: [stage.units.lowerBound, stage.units.upperBound])
            }
        }
        return places
    }

    private func status(_ coordinator: Coordinator, at now: Instant) -> DaemonStatus.Leadership {
        let state = coordinator.state
        let places = state.plan.map(Self.places) ?? [:]
        let peers = coordinator.roster.all.map { peer in
            let (standing, why) = peer.standing.words
            return DaemonStatus.Peer(
                name: peer.name, peer: peer.peer.short, standing: standing, why: why,
                doing: peer.isJoined ? peer.heartbeat.activity.text : nil,
                silentSeconds: max(0, (now - peer.lastHeard).inSeconds), place: places[peer.peer],
                roundTripMilliseconds: channels.roundTrip(to: peer.peer).map { $0.inSeconds * 1000 },
                relayedBy: channels.relay(of: peer.peer)?.short, isConnected: channels.isConnected(to: peer.peer),
                sentBytes: peer.sentBytes > 0 ? peer.sentBytes : nil,
                processorPercent: peer.heartbeat.processorShare.map { $0 * 100 })
        }
        return DaemonStatus.Leadership(
            job: coordinator.job.hex, jobName: state.parameters.name, term: coordinator.term,
            stage: coordinator.stage.word, round: state.round, tokens: state.sealedTokens, tokensTotal: state.tokens,
            trainLoss: state.seals.last?.trainLoss, logLength: coordinator.record.length,
            logCommitted: coordinator.record.committed,
            awaitsLauncherSeconds: coordinator.awaitsLauncherFor.map(\.inSeconds), peers: peers)
    }
}

extension Standing {
    fileprivate var words: (String, why: String?) {
        switch self {
        case .met: ("met", nil)
        case .declined(let why): ("declined", why)
        case .accepted: ("accepted", nil)
        case .joined: ("joined", nil)
        case .lost(let why): ("lost", why)
        }
    }
}
