// All that a page keeps where scripts of later pages would find it.
async () => {
    const stored = storage => Object.entries(storage).flat();
    const cached = [];
    for (const name of "caches" in self ? await caches.keys() : []) {
        const cache = await caches.open(name);
        for (const response of await cache.matchAll()) cached.push(name, response.url, await response.text());
    }
    const bases = indexedDB.databases ? await indexedDB.databases() : [];
    return JSON.stringify([stored(localStorage), stored(sessionStorage), cached, bases.map(one => one.name),
        history.state, location.href, document.referrer, document.cookie]);
}
