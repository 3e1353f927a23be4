"use strict";

/** Marks the section that is being read in the navigation. */
function followSections() {
  const links = new Map([...document.querySelectorAll("nav.sections a")].map((a) => [a.hash.slice(1), a]));
  const observer = new IntersectionObserver((entries) => {
    for (const entry of entries.filter((e) => e.isIntersecting)) {
      for (const link of links.values()) link.removeAttribute("aria-current");
      links.get(entry.target.id)?.setAttribute("aria-current", "true");
    }
  }, { rootMargin: "-20% 0px -75% 0px" });
  for (const id of links.keys()) observer.observe(document.getElementById(id));
}
