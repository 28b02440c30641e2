// What refers to nothing on a page, what is there twice, and what has no label: a sentence each.
() => {
    const ids = [...document.querySelectorAll("[id]")].map(one => one.id);
    const faults = ids.filter((id, index) => ids.indexOf(id) !== index).map(id => `id ${id} is there twice`);
    const tag = one => one.outerHTML.slice(0, 120);
    const refer = (one, attribute, names) => {
        for (const name of names.filter(Boolean))
            if (!document.getElementById(name)) faults.push(`${attribute}="${name}" of ${tag(one)} leads nowhere`);
    };
    const lists = ["for", "aria-labelledby", "aria-describedby", "aria-controls", "aria-owns", "aria-errormessage",
        "list", "form", "headers", "popovertarget", "data-opens", "data-closes"];
    for (const attribute of lists)
        for (const one of document.querySelectorAll(`[${attribute}]`))
            refer(one, attribute, one.getAttribute(attribute).split(/\s+/));
    for (const one of document.querySelectorAll("[data-copy]"))
        refer(one, "data-copy", [one.dataset.copy.replace(/^#/, "")]);
    for (const one of document.querySelectorAll('a[href^="#"]'))
        refer(one, "href", [decodeURIComponent(one.hash.slice(1))]);
    for (const one of document.querySelectorAll("input:not([type=hidden]), select, textarea, progress, meter"))
        if (!one.labels?.length && !one.ariaLabel && !one.getAttribute("aria-labelledby"))
            faults.push(`${tag(one)} has no label`);
    return faults;
}
