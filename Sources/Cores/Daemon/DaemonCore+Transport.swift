import Channels
import Coordination
import Kademlia
import Membership
import Paths
public import Primitives
import Telemetry

extension DaemonCore {
    /// What the transport under the channels reports, live or simulated.
    public mutating func happened(_ event: StreamEvent, at now: Instant) {
        switch event {
        case .secured(let id, let stream):
            secured(
                ConnectionID(id), peer: stream.peer, exporter: stream.exporter, remote: stream.remote,
                inbound: stream.inbound, isTLSClient: stream.isTLSClient, isFlow: stream.isFlow, at: now)
        case .dialFailed(let id, let isRefused): dialFailed(ConnectionID(id), refused: isRefused, at: now)
        case .received(let id, let bytes): received(ConnectionID(id), bytes, at: now)
        case .writable(let id, let unsent): writable(ConnectionID(id), unsent: unsent, at: now)
        case .closed(let id): closed(ConnectionID(id), at: now)
        }
    }
    /// A dial left from another port than the listening one: what is seen of it says nothing about that.
    public mutating func strayed(_ id: ConnectionID) { channels.strayed(id) }

    // MARK: what channels tell

    /// Whoever is there may come in by the router here from now on: that says nothing about strangers.
    private mutating func dial(_ effect: Effect, _ endpoint: Endpoint, at now: Instant) {
        directory.perform(at: now) { $0.spoke(to: endpoint, at: now) }
        effects.push(effect)
    }

    mutating func perform(_ effect: Channels.Effect, at now: Instant) {
        switch effect {
        case .dial(let id, let endpoint, let expecting):
            dial(.dial(id, endpoint, expecting: expecting), endpoint, at: now)
        case .punch(let id, let endpoint, let peer): dial(.punch(id, endpoint, expecting: peer), endpoint, at: now)
        case .flow(let id, let endpoint, let peer): effects.push(.flow(id, endpoint, expecting: peer))
        case .write(let id, let bytes): effects.push(.write(id, bytes))
        case .close(let id): effects.push(.close(id))
        case .open(let id, let relay, let peer): carriage.open(id.value, to: peer, via: relay, at: now)
        case .established(let peer, let endpoint):
            directory.perform(at: now) { $0.spoke(to: endpoint, at: now) }
            channels.trust(peer, services.sharesJob(with: peer), at: now)
            services.coordinatorPart?.value.established(peer, endpoint: endpoint, at: now)
            services.memberPart?.value.established(peer, endpoint: endpoint, at: now)
            toReaders(established: peer, at: now)
            noteWay(to: peer, endpoint, at: now)
            if channels.relay(of: peer) == nil { effects.push(.connected(name(of: peer), endpoint)) }
        case .message(let peer, _, let bytes): receive(bytes, from: peer, at: now)
        case .lost(let peer, let reason):
            requests.forget(peer)
            carriage.lost(peer, at: now)
            // It was only looked for, and is nowhere.
            if reason == .unreachable, wanted[peer] == nil { return }
            if reason == .unreachable { haveCarried(peer, at: now) }
            services.coordinatorPart?.value.lost(
                peer, reason: reason.description, isBack: reason == .restarted, at: now)
            services.memberPart?.value.lost(peer, at: now)
            toReaders(lost: peer, at: now)
            if let endpoint = wanted[peer]?.endpoint, services.memberPart?.value.isWorking == true,
                reason == .closed || reason == .silent
            {
                connect(to: peer, at: endpoint, now: now)
            }
            if services.leads, reason == .closed || reason == .silent {
                // Where it was it may be again in a moment, or somewhere else.
                channels.seek(peer, at: now)
                directory.hurry(topic: Self.poolTopic, at: now)
            }
            say(.connectionLost(why: reason.description), peer: name(of: peer), at: now)
        case .interrupted(let peer, let reason):
            // Whoever stays silent too long is given up by the coordinator's own clock; nothing is lost until then.
            services.coordinatorPart?.value.interrupted(peer)
            say(.connectionInterrupted(why: reason.description), peer: name(of: peer), at: now)
        case .resumed(let peer, let endpoint):
            services.coordinatorPart?.value.resumed(peer, endpoint: endpoint, at: now)
            noteWay(to: peer, endpoint, at: now)
            if channels.relay(of: peer) != nil { return }
            say(.connectionResumed(endpoint: endpoint.description), peer: name(of: peer), at: now)
        case .quiet(let peer, let address): lookForAnotherWay(to: peer, than: address, at: now)
        case .bookChanged: keepBook(at: now)
        case .news(let statement): tell(statement, at: now)
        case .seekMembers(let isLonely): seekMembers(isLonely, at: now)
        case .unreachable(let endpoint, let reason):
            say(.unreachable(why: reason.description), peer: endpoint.description, at: now)
        case .refused(let endpoint, let refusal):
            guard refusal != .oneself, let count = refusalNews.note(refusal.text, at: now) else { return }
            say(.connectionRefused(why: refusal.text, count: count), peer: endpoint.description, at: now)
        }
    }
}
